// The list of connections, with live states.

import { call, path, sentence } from "./api.js";
import { textField } from "./controls.js";
import { h, keyed, setText } from "./dom.js";
import { count, plural, rate } from "./format.js";
import { announce } from "./notice.js";
import { every } from "./poll.js";
import { keepQuery } from "./router.js";
import { mayEdit } from "./session.js";
import { badge } from "./states.js";
import { row, table } from "./table.js";

const LIVE = 2000; // ms between two looks at the states
const NAMES = 30_000; // ms between two looks at names and hosts, which seldom change
const TELL = 3; // changes of state that are said one by one

const COLUMNS = [
  { label: "Connection" }, { label: "State", nowrap: true }, { label: "Host" }, { label: "Queued", end: true },
  { label: "Parked", end: true }, { label: "Rate", end: true },
];

export async function connectionsPage({ query, signal }) {
  const { node, body } = table("Connections and their states", COLUMNS);
  const update = keyed(body, (one) => one.id, connectionRow);
  const filter = textField({ property: "filter", label: "Filter", type: "search", placeholder: "Name, host or state" });
  filter.value = query.get("filter") ?? "";
  const tally = h("p", { class: "muted small", role: "status" });
  const empty = h("div", { class: "empty" });
  const known = new Map();

  const redraw = () => {
    const all = [...known.values()];
    const words = (filter.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const shown = all.filter((one) => words.every((word) => searched(one).includes(word)));
    update(shown);
    node.hidden = !shown.length;
    empty.hidden = Boolean(shown.length);
    if (!shown.length) empty.replaceChildren(...nothing(all.length));
    const open = all.filter((one) => one.state === "OPENED").length;
    setText(tally, shown.length === all.length ? `${plural(all.length, "connection")}, ${count(open)} open` : `${count(shown.length)} of ${plural(all.length, "connection")}`);
  };
  const names = async () => {
    const { connections } = await call("GET", "/connections", { signal });
    tell(known, connections);
    known.clear();
    for (const one of connections) known.set(one.id, one);
    redraw();
  };
  const live = async () => {
    const { connections } = await call("GET", "/status", { signal });
    if (absorb(known, connections)) await names();
    else redraw();
  };
  filter.input.addEventListener("input", () => {
    keepQuery({ filter: filter.value });
    redraw();
  });
  await names();
  every(LIVE, live, signal);
  every(NAMES, names, signal);
  const add = mayEdit() ? h("a", { class: "button primary", href: "#/connections/new" }, "New connection") : null;
  return { title: "Connections", node: h("div", {},
    h("div", { class: "head" }, h("h1", {}, "Connections"), tally, h("div", { class: "buttons" }, add)),
    h("div", { class: "card stack" }, h("div", { class: "filters" }, filter.node), node, empty)) };
}

/** Take the states of GET /status; true if there are other connections than we know. */
function absorb(known, statuses) {
  const there = statuses.filter((one) => one.state !== "REMOVED");
  tell(known, there);
  for (const { id, state, why, queued, parked, rates } of there) {
    if (known.has(id)) known.set(id, { ...known.get(id), state, why, queued, parked, deliveredRate: rates?.delivered ?? null });
  }
  return there.length !== known.size || there.some((one) => !known.has(one.id));
}

/** Say which states are others than we know. */
function tell(known, now) {
  const changed = now.filter((one) => known.has(one.id) && known.get(one.id).state !== one.state);
  if (changed.length > TELL) announce(`${changed.length} connections changed their state`);
  else if (changed.length) announce(changed.map(({ id, state }) => `${known.get(id).name || id}: ${state.replaceAll("_", " ").toLowerCase()}`).join("; "));
}

const searched = (one) => `${one.id} ${one.name} ${one.configuration.hostName} ${one.state} ${one.state.replaceAll("_", " ")}`.toLowerCase();

function nothing(all) {
  if (all) return [h("p", {}, "No connection matches the filter.")];
  const first = mayEdit() ? h("p", {}, h("a", { href: "#/connections/new" }, "Make the first one")) : null;
  return [h("p", {}, "There are no connections yet."), first].filter(Boolean);
}

function connectionRow(first) {
  const link = h("a", { href: `#${path("connections", first.id)}` });
  const id = h("span", { class: "muted small" });
  const state = badge(first.state);
  const why = h("span", { class: "why" });
  const [host, queued, parked, speed] = ["mono small", "", "", ""].map((name) => h("span", { class: name || null }));
  const node = row(COLUMNS, [h("div", {}, link, " ", id), h("div", {}, state.node), h("div", {}, host, why), queued, parked, speed]);
  const update = (one) => {
    setText(link, one.name || one.id);
    setText(id, one.name && one.name !== one.id ? one.id : "");
    state.update(one.state);
    setText(why, one.state === "OPENED" ? "" : sentence(one.why));
    setText(host, one.configuration.hostName);
    setText(queued, count(one.queued));
    setText(parked, count(one.parked));
    setText(speed, rate(one.deliveredRate));
  };
  update(first);
  return { node, update };
}
