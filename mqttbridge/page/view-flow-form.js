// A new flow, or one that is looked at, changed or deleted.

import { ApiError, call, path, sentence } from "./api.js";
import { textField } from "./controls.js";
import { confirmed } from "./dialog.js";
import { h, newId } from "./dom.js";
import { busy, clearErrors, showErrors, summaryPlace } from "./form.js";
import { matchersField } from "./matchers.js";
import { notify } from "./notice.js";
import { go } from "./router.js";
import { mayEdit } from "./session.js";
import { changedMeanwhile } from "./view-connection-form.js";

export async function newFlow({ signal }) {
  if (!mayEdit()) throw new ApiError(403, "This token may only read.");
  const { connections } = await call("GET", "/connections", { signal });
  return flowPage(null, connections, signal);
}

export async function editFlow({ params, signal }) {
  const [{ connections }, there] = await Promise.all([call("GET", "/connections", { signal }), call("GET", path("flows", params.id), { signal })]);
  return flowPage(there, connections, signal);
}

function flowPage(there, connections, signal) {
  const locked = !mayEdit() || there?.owner === "main";
  const fields = [
    textField({ property: "name", label: "Name", required: !there || there.name !== "", help: "A name for people." }),
    ...(there ? [] : [textField({ property: "id", label: "Id", help: "Made of the name, unless you give one. It names the file, and stays as it is." })]),
    textField({ property: "description", label: "Description", whole: true }),
    matchersField(there?.matchers ?? [], locked),
    connectionsField(connections, there?.connections ?? [], locked),
  ];
  for (const field of fields.slice(0, there ? 2 : 3)) {
    field.value = there?.[field.property] ?? "";
    field.input.readOnly = locked;
  }
  const summary = summaryPlace();
  const save = h("button", { type: "submit", class: "primary" }, there ? "Save" : "Create");
  const remove = h("button", { type: "button", class: "danger", onclick: () => busy(remove, () => removed(there)) }, "Delete");
  const form = h("form", { novalidate: true, autocomplete: "off" }, summary,
    h("fieldset", { class: "card" }, h("legend", { class: "hidden" }, "Flow"), h("div", { class: "fields" }, fields.slice(0, -2).map((field) => field.node))),
    fields.slice(-2).map((field) => field.node),
    locked ? null : h("div", { class: "buttons" }, save, h("a", { class: "button", href: "#/flows" }, "Cancel"), there ? remove : null));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!locked) busy(save, () => submit(there, fields, summary, signal));
  });
  const title = there ? there.name || there.id : "New flow";
  return { title, node: h("div", {}, h("a", { class: "back", href: "#/flows" }, "← Flows"), h("div", { class: "head" }, h("h1", {}, title)), reason(there), form) };
}

function reason(there) {
  if (there?.owner !== "main") return null;
  return h("p", { class: "callout" }, "This flow stands in the main file, ", h("code", {}, there.file), ". It can be changed there alone; here it is shown.");
}

/** Check boxes for the connections that the flow leads to; one that is not there any more can be seen, too. */
function connectionsField(connections, chosen, locked) {
  const names = new Map([...connections.map((one) => [one.id, one.name || one.id]), ...chosen.filter((id) => !connections.some((one) => one.id === id)).map((id) => [id, `${id} (not there)`])]);
  const errorId = newId("connections");
  const error = h("p", { class: "error", id: errorId });
  const boxes = [...names].map(([id, name]) => {
    const boxId = newId("connection");
    const box = h("input", { type: "checkbox", id: boxId, value: id, disabled: locked, "aria-describedby": errorId });
    box.checked = chosen.includes(id);
    return { box, node: h("div", { class: "check" }, box, h("label", { for: boxId }, name)) };
  });
  const star = h("span", { class: "star", "aria-hidden": "true" }, " *");
  const none = h("p", { class: "muted" }, "There are no connections yet.");
  const node = h("fieldset", { class: "card" }, h("legend", { class: "hidden" }, "Connections (at least one)"), h("h2", { "aria-hidden": "true", class: "field" }, h("span", {}, "Connections", star)),
    h("div", { class: "choices" }, boxes.length ? boxes.map((one) => one.node) : none), h("div", { class: "field" }, error));
  return {
    property: "connections", node, shown: true, input: boxes[0]?.box ?? node,
    get value() { return boxes.filter(({ box }) => box.checked).map(({ box }) => box.value); },
    setError(text) { error.textContent = text; },
  };
}

async function submit(there, fields, summary, signal) {
  clearErrors(fields, summary);
  const body = Object.fromEntries(fields.map((field) => [field.property, field.value]).filter(([, value]) => value !== null));
  const errors = [];
  if (fields[0].spec.required && !body.name) errors.push({ property: "name", detail: "Name is missing." });
  if (!body.connections.length) errors.push({ property: "connections", detail: "Choose at least one connection." });
  if (errors.length) {
    showErrors(fields, summary, "", errors);
    return;
  }
  try {
    const saved = await call(there ? "PUT" : "POST", there ? path("flows", there.id) : "/flows", { body, ifMatch: there?.etag, signal });
    notify(there ? `${saved.name || saved.id} is saved and in force.` : `The flow ${saved.name || saved.id} was created.`);
    for (const warning of saved.warnings ?? []) notify(sentence(warning), "warn");
    go("#/flows");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 412) changedMeanwhile(summary, error.message);
    else showErrors(fields, summary, error.message, error.errors);
  }
}

async function removed({ id, name, etag }) {
  if (!(await confirmed(`Delete the flow ${name || id}?`, "Its file is removed. Without any flow at all, every active connection gets every uplink.", "Delete"))) return;
  await call("DELETE", path("flows", id), { ifMatch: etag });
  notify(`The flow ${name || id} was deleted.`);
  go("#/flows");
}
