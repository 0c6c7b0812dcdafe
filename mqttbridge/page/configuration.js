// The properties of a connection as they stand in its file, to read.

import { HIDDEN } from "./controls.js";
import { h } from "./dom.js";
import { duration } from "./format.js";

const DURATIONS = new Set(["connectionTimeout", "actionTimeout", "keepAlive", "uplinkTimeValidity"]);

/** A list of names and values. */
export function configurationList(configuration) {
  return h("dl", { class: "facts" }, Object.entries(configuration).map(([name, value]) => [h("dt", {}, name), h("dd", {}, shown(name, value))]));
}

function shown(name, value) {
  if (value === HIDDEN) return h("span", { class: "muted" }, "***** (a secret, not shown)");
  if (typeof value === "string" && value.includes("-----BEGIN ")) {
    const number = value.split("-----BEGIN ").length - 1;
    return h("details", {}, h("summary", {}, number === 1 ? "PEM" : `PEM, ${number} parts`), h("pre", { tabindex: "0" }, value));
  }
  if (DURATIONS.has(name)) return String(duration(value));
  if (Array.isArray(value)) return value.map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(", ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
