// One connection: how it is, what it does, and what may be done with it.

import { ApiError, call, path, sentence } from "./api.js";
import { chart, legend } from "./chart.js";
import { configurationList } from "./configuration.js";
import { confirmed } from "./dialog.js";
import { h, setText } from "./dom.js";
import { downlinkSection } from "./downlink.js";
import { busy } from "./form.js";
import { ago, ahead, count, moment, rate } from "./format.js";
import { announce, notify } from "./notice.js";
import { every } from "./poll.js";
import { go } from "./router.js";
import { mayEdit } from "./session.js";
import { badge } from "./states.js";
import { uplinksSection } from "./uplinks.js";

const LIVE = 2000; // ms
const COUNTERS = 5000; // ms

export async function connectionPage({ params, signal }) {
  const address = path("connections", params.id);
  const first = await call("GET", address, { signal });
  const [state, counters, uplinks] = [statePart(first), await countersSection(address, signal), await uplinksSection(params.id, signal)];
  const configuration = h("section", { class: "card", "aria-label": "Configuration" });
  const downlink = h("div", { hidden: !mayEdit() });
  const heading = h("h1", {});
  const subtitle = h("p", { class: "muted" });
  const changes = { configuration: "", downlink: "" };
  let last = first;
  const update = (view) => {
    if (view.state !== last.state) announce(`${view.name || view.id} is ${view.state.replaceAll("_", " ").toLowerCase()}`);
    last = view;
    setText(heading, view.name || view.id);
    setText(subtitle, view.configuration.description || "");
    state.update(view);
    buttons.arrange();
    if (changed(changes, "configuration", [view.etag, view.active])) configuration.replaceChildren(h("h2", {}, "Configuration"), ownership(view), configurationList({ id: view.id, active: view.active, ...view.configuration }));
    const { downlinkTopicPattern, downlinkEnabled, downlinkPort } = view.configuration;
    // What somebody types there stays, unless it could not be sent any more.
    if (mayEdit() && changed(changes, "downlink", [view.active, downlinkTopicPattern, downlinkEnabled, downlinkPort])) downlink.replaceChildren(downlinkSection(view));
  };
  const look = async () => {
    try {
      update(await call("GET", address, { signal }));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) go("#/connections");
      throw error;
    }
  };
  const buttons = actions(() => last, address, (view) => update(view));
  update(first);
  every(LIVE, look, signal);
  return { title: first.name || first.id, node: h("div", {},
    h("a", { class: "back", href: "#/connections" }, "← Connections"),
    h("div", { class: "head" }, h("div", {}, heading, subtitle), state.badge, buttons.node),
    h("div", { class: "stack" }, state.node, counters, uplinks, downlink, configuration)) };
}

/** Tell whether a part is to be drawn anew: what it shows is not what it showed before. */
function changed(before, name, values) {
  const now = JSON.stringify(values);
  const other = now !== before[name];
  before[name] = now;
  return other;
}

/** The card with the state and the figures of this moment. */
function statePart(first) {
  const mark = badge(first.state);
  const why = h("p", { hidden: true });
  const figures = [["In this state", "small"], ["Last opened", "small"], ["Delivery rate", ""], ["Queued", ""], ["Oldest queued", "small"], ["Parked", ""], ["Delivered", ""], ["Expired", ""], ["Dropped", ""]]
    .map(([label, name]) => [h("dt", {}, label), h("dd", { class: name || null })]);
  const node = h("section", { class: "card stack", "aria-label": "State" }, why, h("dl", { class: "figures" }, figures.map((pair) => h("div", {}, pair))));
  const update = (view) => {
    mark.update(view.state);
    const retry = view.retryAt ? ` It is tried again ${ahead(view.retryAt)}.` : "";
    why.hidden = !view.why || view.state === "OPENED";
    // Whoever stopped it wanted it so: that is no error.
    const stopped = view.state === "DEACTIVATED";
    why.className = stopped ? "callout" : "callout bad";
    setText(why, stopped ? "It is stopped (active is false), and gets no uplinks." : `${sentence(view.why)}${retry}`);
    const texts = [view.since ? `for ${ago(view.since).replace(" ago", "")}` : "–", view.startupTime ? moment(view.startupTime) : "–", rate(view.deliveredRate), count(view.queued), ago(view.oldest), count(view.parked), count(view.totals.delivered), count(view.totals.expired), count(view.totals.dropped)];
    figures.forEach(([, value], place) => setText(value, texts[place]));
  };
  return { node, badge: mark.node, update };
}

async function countersSection(address, signal) {
  const hour = chart("The last hour, by the minute", 60, "minute");
  const day = chart("The last day, by the hour", 24, "hour");
  const devices = h("p", { class: "muted" });
  const look = async () => {
    const counters = await call("GET", `${address}/counters`, { signal });
    hour.update(counters.hour);
    day.update(counters.day);
    const number = counters.activeDevices;
    setText(devices, number === null ? "" : `${count(number)} active ${number === 1 ? "device" : "devices"} ${counters.day.length < 24 ? "since the daemon started" : "in the last 24 hours"}`);
  };
  await look();
  every(COUNTERS, look, signal);
  return h("section", { class: "card", "aria-label": "Counters" },
    h("div", { class: "head" }, h("h2", {}, "Uplinks over time"), devices, legend()),
    h("div", { class: "columns" }, hour.node, day.node));
}

/** Who has it, and so whether it can be changed here. */
function ownership({ owner, file }) {
  if (owner === "api") return h("p", { class: "muted small" }, "In the file ", h("code", {}, `connections.d/${file}`), ", which may also be edited by hand.");
  return h("p", { class: "callout" }, "This connection stands in the main file, ", h("code", {}, file), ". It can be changed there alone; here it is shown.");
}

/** Start, stop, restart, edit and delete, as far as it may be. */
function actions(last, address, update) {
  const node = h("div", { class: "buttons" });
  if (!mayEdit()) return { node, arrange() {} };
  const own = last().owner === "api";
  const doing = (verb, label, said) => {
    const button = h("button", { type: "button" }, label);
    button.addEventListener("click", () => busy(button, async () => {
      update(await call("POST", `${address}/${verb}`));
      notify(`${last().name || last().id} ${said}.`);
    }));
    return button;
  };
  const start = doing("start", "Start", "was started");
  const stop = doing("stop", "Stop", "was stopped");
  const restart = doing("restart", "Restart", "was restarted");
  const remove = h("button", { type: "button", class: "danger" }, "Delete");
  remove.addEventListener("click", () => busy(remove, () => removed(last(), address)));
  const arrange = () => {
    const focused = document.activeElement;
    start.hidden = !own || last().active;
    stop.hidden = !own || !last().active;
    restart.hidden = !last().active;
    if (focused?.hidden) (focused === start ? stop : start).focus();
  };
  node.append(start, stop, restart, ...(own ? [h("a", { class: "button", href: `#${address}/edit` }, "Edit"), remove] : []));
  return { node, arrange };
}

async function removed({ id, name, etag, queued }, address) {
  const waiting = queued ? ` ${count(queued)} uplinks wait for it; they stay in the journal for 72 hours.` : "";
  if (!(await confirmed(`Delete ${name || id}?`, `Its file is removed, and it gets no more uplinks.${waiting}`, "Delete"))) return;
  await call("DELETE", address, { ifMatch: etag });
  notify(`The connection ${name || id} was deleted.`);
  go("#/connections");
}
