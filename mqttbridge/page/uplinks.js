// The uplinks of one connection as they go by, newest first.

import { call, path } from "./api.js";
import { present } from "./dialog.js";
import { h, keyed, setText } from "./dom.js";
import { count, moment } from "./format.js";
import { every } from "./poll.js";
import { badge } from "./states.js";
import { row, table } from "./table.js";

const MOST = 50;
const LIVE = 2000; // ms
const COLUMNS = [
  { label: "Received", nowrap: true }, { label: "Device", nowrap: true }, { label: "FCnt", end: true }, { label: "Outcome", nowrap: true },
  { label: "Topic" }, { label: "Document", nowrap: true },
];

/** The section of a connection's page. */
export async function uplinksSection(id, signal) {
  const { node, body } = table("Uplinks, newest first", COLUMNS);
  const update = keyed(body, (one) => one.id, uplinkRow);
  const empty = h("p", { class: "empty" }, "No uplink came yet. They appear here by themselves.");
  let uplinks = [];
  const look = async () => {
    const after = seenUpTo(uplinks);
    const found = (await call("GET", path("connections", id, "uplinks", { limit: MOST, after, documents: "true" }), { signal })).uplinks;
    const fresh = new Map(found.map((one) => [one.id, one]));
    uplinks = [...uplinks.filter((one) => !fresh.has(one.id)), ...found].sort((a, b) => b.id - a.id).slice(0, MOST);
    update(uplinks);
    node.hidden = !uplinks.length;
    empty.hidden = Boolean(uplinks.length);
  };
  const pause = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  pause.addEventListener("click", () => pause.setAttribute("aria-pressed", String(pause.getAttribute("aria-pressed") === "false")));
  await look();
  every(LIVE, async () => pause.getAttribute("aria-pressed") === "true" || look(), signal);
  return h("section", { class: "card", "aria-label": "Uplinks" },
    h("div", { class: "head" }, h("h2", {}, "Uplinks"), h("div", { class: "buttons" }, pause)), node, empty);
}

/** The id after which to ask: before the oldest that still waits, so that its end is seen; else after the newest. */
function seenUpTo(uplinks) {
  if (!uplinks.length) return "";
  const waiting = uplinks.filter((one) => one.outcome === "queued").map((one) => one.id);
  return waiting.length ? Math.min(...waiting) - 1 || "" : uplinks[0].id;
}

const KINDS = { DevEUI_uplink: "" };

function uplinkRow(first) {
  const outcome = badge(first.outcome);
  const reason = h("span", { class: "why" });
  const topic = h("span", { class: "mono small" });
  const kind = KINDS[first.kind] ?? first.kind;
  const size = `${count(first.size)} bytes`;
  const title = `${first.devEui}, ${moment(first.received)}`;
  const document = h("button", { type: "button", class: "link", "aria-label": `Show the document of ${title}`, onclick: () => present(title, JSON.stringify(first.document, null, 2)) }, size);
  const node = row(COLUMNS, [
    h("time", { datetime: first.received }, moment(first.received)),
    h("div", {}, h("span", { class: "mono" }, first.devEui), kind ? h("span", { class: "why" }, kind) : null),
    first.fcnt === null || first.fcnt === undefined ? null : String(first.fcnt),
    h("div", {}, outcome.node, reason), topic,
    first.document === null || first.document === undefined ? size : document,
  ]);
  const update = (one) => {
    outcome.update(one.outcome);
    setText(reason, one.reason ?? "");
    setText(topic, one.topic || "–");
  };
  update(first);
  return { node, update };
}
