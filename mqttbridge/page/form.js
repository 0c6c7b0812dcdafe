// What all forms share: errors at the field they belong to, buttons that work once, a summary on top.

import { ApiError, sentence } from "./api.js";
import { h } from "./dom.js";
import { notify } from "./notice.js";

const LOOK = "Some fields need another look.";

/** Run an action of a button; another press meanwhile does nothing. */
export async function busy(button, action) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await action();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    notify(error.message, "bad");
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

export const summaryPlace = () => h("div", { role: "alert" });

/** Take all errors away. */
export function clearErrors(fields, summary) {
  for (const field of fields) field.setError("");
  summary.replaceChildren();
}

/**
 * Show errors, {property, detail}: each at its field, what has none in the summary, and the focus on the first.
 * `lead` is the sentence of the summary, unless all that is wrong stands at its field.
 */
export function showErrors(fields, summary, lead, errors) {
  const left = [];
  let first = null;
  for (const field of fields) {
    const mine = errors.filter((error) => belongs(error.property, field));
    if (!mine.length) continue;
    field.setError(mine.map((error) => sentence(error.detail)).join(" "));
    first ??= field;
  }
  for (const error of errors) {
    if (!fields.some((field) => belongs(error.property, field))) left.push(error);
  }
  const list = left.length ? h("ul", {}, left.map(({ property, detail }) => h("li", {}, property ? `${property} ${detail}` : detail))) : null;
  summary.replaceChildren(h("div", { class: "callout bad" }, h("p", {}, first && !left.length ? LOOK : sentence(lead)), list));
  if (first) focusOn(first.input);
  else summary.scrollIntoView({ block: "center" });
}

function belongs(property, field) {
  return field.shown && (property === field.property || property?.startsWith(`${field.property}[`) || property?.startsWith(`${field.property}.`));
}

function focusOn(input) {
  const around = input.closest("details");
  if (around) around.open = true;
  input.focus();
}
