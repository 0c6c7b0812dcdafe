// From the address (#/connections/acme?level=error) to a view. Back, forward and reload find the same place.

import { ApiError, sentence } from "./api.js";
import { h } from "./dom.js";
import { tidyNotices } from "./notice.js";

const START = "#/connections";
let current = new AbortController();
let routes = [];
let moved = false;

/** Take the routes, as [pattern, view], and show what the address says, now and whenever it changes. */
export function startRouter(table) {
  routes = table;
  window.addEventListener("hashchange", () => {
    moved = true;
    tidyNotices();
    show();
  });
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  });
}

/** Go somewhere; the same place is shown anew. */
export function go(hash) {
  if (location.hash === hash) show();
  else location.hash = hash;
}

/** Keep a view's filters in the address without another step in the history of the browser. */
export function keepQuery(values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
  const [where] = (location.hash || START).split("?");
  history.replaceState(null, "", `${where}${query.size ? `?${query}` : ""}`);
}

function found() {
  const [where, search = ""] = (location.hash || START).slice(1).split("?");
  const parts = where.split("/").filter(Boolean).map(decoded);
  for (const [pattern, view] of routes) {
    const wanted = pattern.split("/").filter(Boolean);
    if (wanted.length !== parts.length) continue;
    if (!wanted.every((part, place) => part.startsWith(":") || part === parts[place])) continue;
    const params = Object.fromEntries(wanted.map((part, place) => [part.slice(1), parts[place]]));
    return { view, section: parts[0], context: { params, query: new URLSearchParams(search) } };
  }
  return { view: nothing, section: "", context: {} };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Show the view of the address. A view gives {title, node}, and stops what it began when its signal says so. */
export async function show() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const { view, section, context } = found();
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === `#/${section}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let page;
  try {
    page = await view({ ...context, signal });
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    page = failed(error);
  }
  if (!signal.aborted) place(page);
}

/** Put a page up, and the focus on its heading if the reader came from elsewhere in here. */
export function place({ title, node, focus = null }) {
  document.title = `${title} – mqttbridge`;
  document.getElementById("main").replaceChildren(node);
  if (!moved && !focus) return;
  const target = focus ?? node.querySelector("h1");
  if (!focus) target?.setAttribute("tabindex", "-1");
  target?.focus();
  if (!focus) window.scrollTo(0, 0);
}

/** End what the shown view does. */
export function leave() {
  current.abort();
  moved = true;
}

function nothing() {
  return message("There is nothing here", "The address leads nowhere.");
}

function failed(error) {
  return message(error.status === 404 ? "Not found" : "That did not work", sentence(error.message));
}

function message(title, text) {
  const retry = h("button", { type: "button", onclick: show }, "Try again");
  const home = h("a", { class: "button", href: "#/connections" }, "To the connections");
  return { title, node: h("div", { class: "card stack" }, h("h1", {}, title), h("p", {}, text), h("div", { class: "buttons" }, retry, home)) };
}
