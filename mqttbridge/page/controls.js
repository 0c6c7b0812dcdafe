// The fields of a form. Each is {property, node, input, value, setError(text), setShown(bool)}; a value of null is none.

import { h, newId, setText } from "./dom.js";
import { checkPem } from "./pem.js";

export const HIDDEN = "*****"; // how the API shows a secret, and how it is told to keep it

/** Put label, help and place for an error around an input. */
function field(spec, input, extra = []) {
  const id = newId("field");
  const error = h("p", { class: "error", id: `${id}-error` });
  const help = h("p", { class: "help", id: `${id}-help` }, spec.help ?? "");
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-error ${id}-help`);
  if (spec.required) input.setAttribute("aria-required", "true");
  const star = spec.required ? h("span", { class: "star", "aria-hidden": "true" }, " *") : null;
  const label = h("label", { for: id }, spec.label, star);
  const check = input.type === "checkbox";
  const node = h("div", { class: spec.whole ? "field whole" : "field" },
    check ? h("div", { class: "check" }, input, label) : [label, input], extra, error, help);
  return {
    property: spec.property, spec, node, input, shown: true,
    setError(text) {
      setText(error, text);
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
    setShown(shown) {
      this.shown = shown;
      node.hidden = !shown;
    },
  };
}

/** Text, or a password that is typed; `list`: separated by commas. */
export function textField(spec) {
  const input = h("input", {
    type: spec.type ?? "text", autocomplete: spec.autocomplete ?? "off", spellcheck: "false", autocapitalize: "none",
    placeholder: spec.placeholder, inputmode: spec.inputmode, class: spec.short ? "short" : null,
    min: spec.min, max: spec.max,
  });
  return Object.defineProperty(field(spec, input), "value", {
    get: () => (input.value === "" ? null : spec.type === "number" ? Number(input.value) : input.value),
    set: (value) => { input.value = value ?? ""; },
  });
}

export function listField(spec) {
  const one = textField(spec);
  return Object.defineProperty({ ...one }, "value", {
    get: () => {
      const parts = (one.value ?? "").split(/[\s,]+/).filter(Boolean);
      return parts.length ? parts : null;
    },
    set: (value) => { one.value = (value ?? []).join(", "); },
  });
}

export function checkField(spec) {
  const input = h("input", { type: "checkbox" });
  return Object.defineProperty(field(spec, input), "value", {
    get: () => input.checked,
    set: (value) => { input.checked = Boolean(value); },
  });
}

/** One of several; options are [value, label]. */
export function choiceField(spec) {
  const input = h("select", {}, spec.options.map(([value, label]) => h("option", { value }, label)));
  return Object.defineProperty(field(spec, input), "value", {
    get: () => (input.value === "" ? null : spec.numeric ? Number(input.value) : input.value),
    set: (value) => { input.value = value ?? ""; },
  });
}

/** A secret: what the daemon has is not shown; it is kept, replaced or removed. */
export function secretField(spec) {
  let kept = false;
  const note = h("span", { class: "note" }, "One is set. Leave this empty to keep it.");
  const remove = h("button", { type: "button", class: "quiet" }, "Remove it");
  const line = h("div", { class: "kept", hidden: true }, note, remove);
  const input = h("input", { type: "password", autocomplete: "new-password", spellcheck: "false" });
  const one = field(spec, input, [line]);
  const show = (keeps) => {
    kept = keeps;
    line.hidden = !keeps;
  };
  remove.addEventListener("click", () => {
    show(false);
    input.focus();
  });
  return Object.defineProperty(one, "value", {
    get: () => input.value || (kept ? HIDDEN : null),
    set: (value) => {
      input.value = value && value !== HIDDEN ? value : "";
      show(value === HIDDEN);
    },
  });
}

/** A PEM file that is picked: `spec.pem` is "certificate" or "key". */
export function pemField(spec) {
  let text = null;
  const input = h("input", { type: "file", accept: ".pem,.crt,.cer,.key,.txt" });
  const note = h("span", { class: "note", role: "status" });
  const remove = h("button", { type: "button", class: "quiet" }, "Remove it");
  const line = h("div", { class: "kept", hidden: true }, note, remove);
  const one = field(spec, input, [line]);
  const show = (value, said) => {
    text = value;
    line.hidden = value === null;
    setText(note, said);
  };
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    const { problem, said, pem } = await checkPem(file, spec.pem);
    one.setError(problem ?? "");
    input.value = "";
    if (!problem) show(pem, said);
  });
  remove.addEventListener("click", () => {
    show(null, "");
    one.setError("");
    input.focus();
  });
  return Object.defineProperty(one, "value", {
    get: () => text,
    set: (value) => show(value ?? null, value ? "There is one. Choose a file to replace it." : ""),
  });
}
