// Short news for everybody: notices in the corner, and words for screen readers alone.

import { h } from "./dom.js";

const STAYS = 8000; // ms
const MOST = 3;

/** Show a notice; it goes by itself, unless it tells of a failure, or somebody points at it. */
export function notify(text, { bad = false } = {}) {
  const list = document.getElementById("notices");
  const close = h("button", { type: "button", class: "quiet", "aria-label": "Close this notice", onclick: () => node.remove() }, "✕");
  const node = h("div", { class: bad ? "notice bad" : "notice" }, h("p", {}, text), close);
  list.append(node);
  while (list.children.length > MOST) list.firstElementChild.remove();
  if (!bad) leave(node);
}

function leave(node) {
  setTimeout(() => (node.matches(":hover, :focus-within") ? leave(node) : node.remove()), STAYS);
}

/** Have a screen reader say something when it is idle. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}
