// Asking before something is deleted, and showing what needs room.

import { h, newId } from "./dom.js";

/** Ask; resolves to whether it was confirmed. Escape and Cancel say no; the focus goes back to where it was. */
export function confirmed(title, text, verb) {
  return new Promise((resolve) => {
    const titleId = newId("dialog");
    const textId = newId("dialog");
    const cancel = h("button", { type: "button", autofocus: true, onclick: () => dialog.close("") }, "Cancel");
    const go = h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, verb);
    const dialog = h("dialog", { "aria-labelledby": titleId, "aria-describedby": textId },
      h("h2", { id: titleId }, title),
      h("p", { id: textId }, text),
      h("div", { class: "buttons" }, cancel, go));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Show a text as it is, until it is closed. */
export function present(title, text) {
  const titleId = newId("dialog");
  const close = h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog", { class: "large", "aria-labelledby": titleId },
    h("h2", { id: titleId }, title),
    h("pre", { tabindex: "0" }, text),
    h("div", { class: "buttons" }, close));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
