// The matchers of a flow in its form: rows that are added and removed.

import { h, newId } from "./dom.js";

/** Give {property, node, input, value, setError, setShown, shown} for `matchers`. */
export function matchersField(matchers, locked) {
  const rows = h("div", { class: "rows" });
  const id = newId("matchers");
  const error = h("p", { class: "error", id });
  const all = [];
  const add = h("button", { type: "button", onclick: () => append({ type: "key", key: "" }).value.focus() }, "Add a matcher");
  const append = (matcher) => {
    const one = matcherRow(matcher, locked, id, () => {
      all.splice(all.indexOf(one), 1);
      one.node.remove();
      add.focus();
    });
    all.push(one);
    rows.append(one.node);
    return one;
  };
  matchers.forEach(append);
  const node = h("fieldset", { class: "card" }, h("legend", { class: "hidden" }, "Matchers"), h("h2", { "aria-hidden": "true" }, "Matchers"),
    h("div", { class: "stack" }, h("p", { class: "muted small" }, "An uplink that one of them matches goes through this flow. Without any, every uplink does."), rows, h("div", { class: "field" }, error), h("div", { class: "buttons" }, locked ? null : add)));
  return {
    property: "matchers", node, shown: true,
    get input() { return all[0]?.value ?? add; },
    get value() { return all.map((one) => one.read()); },
    setError(text) { error.textContent = text; },
  };
}

function matcherRow(matcher, locked, errorId, remove) {
  const [typeId, valueId] = [newId("matcher"), newId("matcher")];
  const type = h("select", { id: typeId, disabled: locked }, h("option", { value: "key" }, "Device"), h("option", { value: "thing" }, "Tags"));
  const value = h("input", { id: valueId, type: "text", spellcheck: "false", autocomplete: "off", disabled: locked, "aria-describedby": errorId });
  const label = h("label", { for: valueId });
  const name = () => {
    label.textContent = type.value === "key" ? "DevEUI" : "Tags, all of them, separated by commas";
  };
  type.value = matcher.type;
  value.value = matcher.type === "key" ? matcher.key.replace(/^lora:/i, "") : matcher.tags.join(", ");
  type.addEventListener("change", name);
  name();
  const drop = h("button", { type: "button", class: "danger", onclick: remove, "aria-label": "Remove this matcher" }, "Remove");
  const node = h("div", { class: "row" },
    h("div", { class: "field" }, h("label", { for: typeId }, "By"), type), h("div", { class: "field" }, label, value), locked ? null : drop);
  const read = () => (type.value === "key"
    ? { type: "key", key: `lora:${value.value.replaceAll(/[\s:-]/g, "")}` }
    : { type: "thing", tags: value.value.split(",").map((tag) => tag.trim()).filter(Boolean) });
  return { node, value, read };
}
