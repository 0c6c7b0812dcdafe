// What came of testing a connection, step by step.

import { sentence } from "./api.js";
import { h } from "./dom.js";
import { badge } from "./states.js";

const LEAD = {
  true: "The test went well: the connection would work.",
  false: "The test failed: see the step that says so.",
};

/** Show a Tested answer. */
export function testedNode({ ok, steps, warnings = [] }) {
  return h("div", { class: "stack" },
    h("p", { class: `callout ${ok ? "good" : "bad"}` }, LEAD[Boolean(ok)]),
    warnings.map((text) => h("p", { class: "callout busy" }, sentence(text))),
    h("ol", { class: "steps" }, steps.map(stepNode)));
}

/** Each line is a sentence, but for those that are set in: names and what else belongs to the line above, as they are. */
const sentences = (text) => text.split("\n").map((line) => (line.startsWith(" ") ? line : sentence(line))).join("\n");

function stepNode({ name, outcome, detail, advice, milliseconds }) {
  const time = milliseconds === null || milliseconds === undefined ? null : h("span", { class: "muted small" }, ` ${Math.round(milliseconds)} ms`);
  return h("li", {},
    badge(outcome).node,
    h("div", { class: "says" },
      h("strong", {}, name), time,
      detail ? h("p", {}, sentences(detail)) : null,
      advice ? h("p", { class: "muted" }, sentences(advice)) : null));
}
