// What happened: the events that the daemon keeps, by level and connection, followed as they come.

import { call, path } from "./api.js";
import { checkField, choiceField } from "./controls.js";
import { h, keyed } from "./dom.js";
import { moment } from "./format.js";
import { every } from "./poll.js";
import { keepQuery } from "./router.js";
import { badge } from "./states.js";
import { row, table } from "./table.js";

const MOST = 200;
const LIVE = 2000; // ms
const COLUMNS = [{ label: "Time", nowrap: true }, { label: "Level", nowrap: true }, { label: "Event", nowrap: true }, { label: "What" }];
const BESIDE = new Set(["id", "at", "level", "event", "reason"]);

export async function eventsPage({ query, signal }) {
  const { connections } = await call("GET", "/connections", { signal });
  const level = choiceField({ property: "level", label: "Level", options: [["", "All"], ["warning", "Warnings and errors"], ["error", "Errors alone"]] });
  const connection = choiceField({ property: "connection", label: "Connection", options: [["", "All"], ...connections.map((one) => [one.id, one.name || one.id])] });
  const follow = checkField({ property: "follow", label: "Follow" });
  level.value = query.get("level");
  connection.value = query.get("connection");
  follow.value = true;
  const { node, body } = table("Events, newest first", COLUMNS);
  const update = keyed(body, (one) => one.id, (one) => ({ node: eventRow(one) }));
  const empty = h("p", { class: "empty" }, "Nothing happened, as far as these filters let through.");
  let events = [];
  let asked = 0;
  const look = async (anew) => {
    const mine = anew ? (asked += 1) : asked;
    const after = anew || !events.length ? "" : events[0].id;
    const answer = await call("GET", path("events", { limit: MOST, level: level.value ?? "info", connection: connection.value, after }), { signal });
    const found = answer.events ?? answer; // the Unix socket answers with the list alone
    if (mine !== asked) return; // other filters were chosen meanwhile
    const ids = new Set(found.map((one) => one.id));
    events = [...found.toReversed(), ...(anew ? [] : events.filter((one) => !ids.has(one.id)))].slice(0, MOST);
    update(events);
    node.hidden = !events.length;
    empty.hidden = Boolean(events.length);
  };
  await look(true);
  const again = every(LIVE, async () => (follow.value ? look(false) : null), signal);
  for (const field of [level, connection]) {
    field.input.addEventListener("change", () => {
      keepQuery({ level: level.value, connection: connection.value });
      look(true).catch(again);
    });
  }
  return { title: "Events", node: h("div", {},
    h("div", { class: "head" }, h("h1", {}, "Events")),
    h("div", { class: "card stack" }, h("div", { class: "filters" }, level.node, connection.node, follow.node), node, empty)) };
}

function eventRow(event) {
  const others = Object.entries(event).filter(([name, value]) => !BESIDE.has(name) && value !== null && value !== "");
  return row(COLUMNS, [
    h("time", { datetime: event.at }, moment(event.at)), badge(event.level).node, h("code", {}, event.event),
    h("div", {}, event.reason ? h("p", {}, String(event.reason)) : null,
      h("span", { class: "why" }, others.map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(" · "))),
  ]);
}
