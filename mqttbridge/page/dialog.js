// Asking before something is deleted.

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
