// Counters as a small bar chart, with a sentence and a table for who does not see it.

import { h, s } from "./dom.js";
import { count, hourMinute } from "./format.js";
import { row, table } from "./table.js";

const HEIGHT = 100;
const COLUMNS = [
  { label: "From" }, { label: "Routed", end: true }, { label: "Delivered", end: true }, { label: "Expired", end: true },
  { label: "Parked", end: true }, { label: "Dropped", end: true },
];

const lost = (span) => span.expired + span.parked + span.dropped;
const sum = (spans, value) => spans.reduce((total, span) => total + value(span), 0);

/** A chart of `slots` spans, the newest at the right: `{node, update(spans)}`. `unit`: what a span is, `minute`. */
export function chart(title, slots, unit) {
  const drawing = s("svg", { role: "img", viewBox: `0 0 ${slots * 10} ${HEIGHT}`, preserveAspectRatio: "none" });
  const said = h("span", { class: "muted small" });
  const { node: numbers, body } = table(`${title}: numbers`, COLUMNS, { wide: false });
  const node = h("figure", { class: "chart" },
    h("figcaption", {}, h("strong", {}, title), said), drawing,
    h("div", { class: "axis", "aria-hidden": "true" }, h("span", {}, `${slots} ${unit}s ago`), h("span", {}, "now")),
    h("details", {}, h("summary", {}, "As a table"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}: numbers` }, numbers)));
  let before = "";
  const update = (spans) => {
    const now = JSON.stringify(spans);
    if (now === before) return;
    before = now;
    const text = `${count(sum(spans, (span) => span.delivered))} delivered, ${count(sum(spans, lost))} expired, parked or dropped`;
    said.textContent = text;
    drawing.setAttribute("aria-label", `${title}: ${text}`);
    drawing.replaceChildren(...bars(spans, slots));
    body.replaceChildren(...spans.toReversed().map((span) => row(COLUMNS, [hourMinute(span.start), ...["routed", "delivered", "expired", "parked", "dropped"].map((name) => count(span[name]))])));
  };
  return { node, update };
}

/** The key to the colours. */
export function legend() {
  return h("p", { class: "legend" }, h("span", {}, "Delivered"), h("span", { class: "lost" }, "Expired, parked or dropped"));
}

function bars(spans, slots) {
  const shown = spans.slice(-slots);
  const highest = Math.max(1, ...shown.map((span) => span.delivered + lost(span)));
  const ground = s("line", { class: "ground", x1: 0, x2: slots * 10, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 });
  const drawn = shown.map((span, place) => {
    const x = (slots - shown.length + place) * 10 + 1;
    const good = scaled(span.delivered, highest);
    const bad = scaled(lost(span), highest);
    return s("g", {},
      s("title", {}, `${hourMinute(span.start)}: ${count(span.delivered)} delivered, ${count(lost(span))} expired, parked or dropped`),
      good ? s("rect", { class: "bar", x, y: HEIGHT - good, width: 8, height: good }) : null,
      bad ? s("rect", { class: "bar lost", x, y: HEIGHT - good - bad, width: 8, height: bad }) : null);
  });
  return [ground, ...drawn];
}

/** How high a bar is; what is not nothing can be seen. */
function scaled(value, highest) {
  return value ? Math.max(2, (value / highest) * (HEIGHT - 4)) : 0;
}
