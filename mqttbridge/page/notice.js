// Short news for everybody: notices in the corner, and words for screen readers alone.

import { h } from "./dom.js";

const STAYS = { good: 8000, warn: 20_000, bad: 0 }; // ms; 0: until it is closed, or the reader has gone on
const MOST = 3;

/** Show a notice, `good`, `warn` or `bad`; it goes by itself, unless it is bad, or somebody points at it. */
export function notify(text, tone = "good") {
  const list = document.getElementById("notices");
  const close = h("button", { type: "button", class: "quiet", "aria-label": "Close this notice", onclick: () => node.remove() }, "✕");
  const node = h("div", { class: `notice ${tone}` }, h("p", {}, text), close);
  list.append(node);
  while (list.children.length > MOST) list.firstElementChild.remove();
  if (STAYS[tone]) leave(node, STAYS[tone]);
}

function leave(node, after) {
  setTimeout(() => (node.matches(":hover, :focus-within") ? leave(node, after) : node.remove()), after);
}

/** The reader goes on: a notice is taken along once, and not again. */
export function tidyNotices() {
  for (const node of [...document.getElementById("notices").children]) {
    if (node.dataset.old) node.remove();
    else node.dataset.old = "yes";
  }
}

/** Have a screen reader say something when it is idle. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}
