// A new connection, or one that is changed: the form, its test, and saving it.

import { ApiError, call, path, sentence } from "./api.js";
import { checkField, choiceField, listField, pemField, secretField, textField } from "./controls.js";
import { documentOf, made, shownValue } from "./document.js";
import { h } from "./dom.js";
import { configurationProperties, FIELDS, GROUPS } from "./fields.js";
import { busy, clearErrors, showErrors, summaryPlace } from "./form.js";
import { notify } from "./notice.js";
import { go, show } from "./router.js";
import { mayEdit } from "./session.js";
import { testedNode } from "./tested.js";

const MAKERS = {
  text: textField, duration: textField, list: listField, check: checkField, choice: choiceField, secret: secretField,
  pem: pemField, number: (spec) => textField({ ...spec, type: "number" }),
};

export async function newConnection({ signal }) {
  if (!mayEdit()) throw new ApiError(403, "This token may only read.");
  return formPage({ schema: await schemaOf(signal), signal });
}

export async function editConnection({ params, signal }) {
  if (!mayEdit()) throw new ApiError(403, "This token may only read.");
  const [schema, there] = await Promise.all([schemaOf(signal), call("GET", path("connections", params.id), { signal })]);
  if (there.owner === "main") throw new ApiError(409, `${there.file} has this connection; change it there.`);
  return formPage({ schema, there, signal });
}

async function schemaOf(signal) {
  const { connectors } = await call("GET", "/connectors", { signal });
  return configurationProperties(connectors[0]?.configurationSchema);
}

/** Build the page; `there` is the ConnectionView that is changed, if any. */
function formPage({ schema, there = null, signal }) {
  const base = there ? documentOf(there) : null;
  const fields = FIELDS.filter((spec) => !(there && spec.onlyNew)).map((spec) => control(spec, schema, base));
  const summary = summaryPlace();
  const result = h("div", { role: "status" });
  const testing = h("section", { class: "card", hidden: true, "aria-label": "Test" }, h("h2", {}, "Test"), result);
  const state = { there, base, fields, summary, result, testing, signal, home: there ? `#/connections/${encodeURIComponent(there.id)}` : "#/connections" };
  const test = h("button", { type: "button", onclick: () => busy(test, () => tryOut(state)) }, "Test");
  const save = h("button", { type: "submit", class: "primary" }, there ? "Save" : "Create");
  const form = h("form", { novalidate: true, autocomplete: "off" },
    summary, GROUPS.map((name) => group(name, fields)), testing,
    h("div", { class: "buttons" }, save, test, h("a", { class: "button", href: state.home }, "Cancel")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(save, () => submit(state));
  });
  form.addEventListener("change", () => arrange(state));
  arrange(state);
  const title = there ? `Change ${there.name || there.id}` : "New connection";
  return { title, node: h("div", {}, h("a", { class: "back", href: state.home }, there ? "← Back to the connection" : "← Connections"),
    h("div", { class: "head" }, h("h1", {}, title), h("p", { class: "muted small" }, "Fields with ", h("span", { "aria-hidden": "true" }, "* "), h("span", { class: "hidden" }, "a star "), "must be filled in.")), form) };
}

function control(spec, schema, base) {
  const described = schema[spec.property.split(".")[1]]?.description;
  const required = spec.required && !(spec.property === "name" && base && !base.name); // a file may have none
  const field = MAKERS[spec.kind]({ ...spec, required, help: spec.help ?? (described ? sentence(described[0].toUpperCase() + described.slice(1)) : "") });
  field.value = shownValue(spec, base);
  return field;
}

function group(name, fields) {
  const mine = h("div", { class: "fields" }, fields.filter((field) => field.spec.group === name).map((field) => field.node));
  if (name === "Advanced") return h("details", { class: "card" }, h("summary", {}, name), mine);
  return h("fieldset", { class: "card" }, h("legend", { class: "hidden" }, name), h("h2", { "aria-hidden": "true" }, name), mine);
}

/** Show what the chosen protocol needs, and hide the rest. */
function arrange({ fields }) {
  const values = Object.fromEntries(fields.map((field) => [field.property, field.value]));
  for (const field of fields) field.setShown(field.spec.when?.(values) ?? true);
  const certificates = fields.filter((field) => field.spec.group === "Certificates");
  const card = certificates[0].node.closest("fieldset");
  if (card) card.hidden = certificates.every((field) => !field.shown);
}

/** What can be told without asking the daemon. */
function early(fields) {
  const errors = [];
  for (const { spec, property, shown, value } of fields) {
    if (shown && spec.required && (value === null || String(value).trim() === "")) errors.push({ property, detail: `${spec.label} is missing.` });
  }
  const host = fields.find((field) => field.property === "configuration.hostName");
  if (/^[a-z]+:\/\//i.test(host.value ?? "")) errors.push({ property: host.property, detail: `Leave out ${host.value.split("//")[0]}//: the protocol has a field of its own.` });
  const [certificate, key] = ["certificate", "privateKey"].map((name) => fields.find((field) => field.property === `configuration.${name}`));
  if (certificate.shown && certificate.value && !key.value) errors.push({ property: key.property, detail: "The key of the client certificate is missing." });
  if (key.shown && key.value && !certificate.value) errors.push({ property: certificate.property, detail: "The certificate of the private key is missing." });
  return errors;
}

/** Read the form; null, and errors shown, if something is missing. */
function ready(state) {
  clearErrors(state.fields, state.summary);
  const errors = early(state.fields);
  if (!errors.length) return made(state.fields, state.base);
  showErrors(state.fields, state.summary, "", errors);
  return null;
}

const where = ({ there }, query = {}) => (there ? path("connections", there.id, query) : path("connections", query));

async function tryOut(state) {
  const document = ready(state);
  if (!document) return;
  state.testing.hidden = false;
  state.result.replaceChildren(h("p", { class: "muted" }, "Testing: the daemon connects to the broker …"));
  try {
    const tested = await call(state.there ? "PUT" : "POST", where(state, { dryRun: "true" }), { body: document, signal: state.signal });
    state.result.replaceChildren(testedNode(tested));
    state.testing.scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    state.testing.hidden = true;
    showErrors(state.fields, state.summary, error.message, error.errors);
  }
}

async function submit(state) {
  const document = ready(state);
  if (!document) return;
  const { there } = state;
  try {
    const saved = await call(there ? "PUT" : "POST", where(state), { body: document, ifMatch: there?.etag, signal: state.signal });
    notify(there ? `${saved.name || saved.id} is saved and in force.` : `The connection ${saved.name || saved.id} was created.`);
    for (const warning of saved.warnings ?? []) notify(sentence(warning), "warn");
    go(`#/connections/${encodeURIComponent(saved.id)}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 412) changedMeanwhile(state.summary, error.message);
    else showErrors(state.fields, state.summary, error.message, error.errors);
  }
}

/** Somebody else was faster: say so, and offer to begin again with what is there now. */
export function changedMeanwhile(summary, why) {
  const reload = h("button", { type: "button", onclick: show }, "Load what is there now");
  summary.replaceChildren(h("div", { class: "callout busy" },
    h("p", {}, "Somebody else changed this since you opened it. Nothing was saved. Loading what is there now discards what you entered here."),
    // An edit by hand that is not in force yet cannot be loaded here: this says so.
    h("p", {}, why),
    h("div", { class: "buttons" }, reload)));
  reload.focus();
}
