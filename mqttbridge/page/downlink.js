// Sending a downlink through a connection, and what came of it.

import { ApiError, call, path, sentence } from "./api.js";
import { checkField, textField } from "./controls.js";
import { h } from "./dom.js";
import { busy, clearErrors, showErrors, summaryPlace } from "./form.js";

const HEX = /^([0-9a-f]{2})+$/i;

/** The section of a connection's page; a sentence instead of the form when it takes no downlinks. */
export function downlinkSection({ id, active, configuration }) {
  const head = h("h2", {}, "Send a downlink");
  const why = !configuration.downlinkTopicPattern ? "This connection has no downlink topic: it takes no downlinks."
    : configuration.downlinkEnabled === false ? "Downlinks are switched off for this connection."
      : !active ? "This connection is not active." : "";
  if (why) return h("section", { class: "card", "aria-label": "Send a downlink" }, head, h("p", { class: "muted" }, why));
  return h("section", { class: "card", "aria-label": "Send a downlink" }, head, downlinkForm(id, configuration.downlinkPort));
}

function downlinkForm(id, usualPort) {
  const fields = [
    textField({ property: "DevEUI", label: "DevEUI", required: true, placeholder: "0018B20000000B20", help: "16 hex digits." }),
    textField({ property: "FPort", label: "FPort", type: "number", min: 1, max: 224, required: !usualPort, placeholder: usualPort, help: usualPort ? `1 to 224; ${usualPort} if empty.` : "1 to 224." }),
    textField({ property: "payload_hex", label: "Payload", required: true, placeholder: "0103", help: "Hex digits, two for each byte." }),
    checkField({ property: "Confirmed", label: "Confirmed", help: "The device acknowledges it." }),
  ];
  const summary = summaryPlace();
  const result = h("div", { role: "status" });
  const send = h("button", { type: "submit" }, "Send");
  const form = h("form", { novalidate: true }, summary, h("div", { class: "fields" }, fields.map((field) => field.node)), h("div", { class: "buttons" }, send), result);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(send, () => submit(id, fields, summary, result));
  });
  return form;
}

function wrong([device, port, payload]) {
  const errors = [];
  if (!/^[0-9a-f]{16}$/i.test(plain(device))) errors.push({ property: "DevEUI", detail: "A DevEUI has 16 hex digits." });
  if (port.value === null ? port.spec.required : !(port.value >= 1 && port.value <= 224 && Number.isInteger(port.value))) errors.push({ property: "FPort", detail: "FPort is a whole number from 1 to 224." });
  if (!HEX.test(plain(payload))) errors.push({ property: "payload_hex", detail: "The payload is hex digits, two for each byte." });
  return errors;
}

const plain = (field) => (field.value ?? "").replaceAll(/[\s:-]/g, "");

async function submit(id, fields, summary, result) {
  clearErrors(fields, summary);
  result.replaceChildren();
  const errors = wrong(fields);
  if (errors.length) {
    showErrors(fields, summary, "", errors);
    return;
  }
  const [device, port, payload, confirmed] = fields;
  const document = { DevEUI: plain(device).toUpperCase(), payload_hex: plain(payload), Confirmed: confirmed.value ? 1 : 0, ...(port.value === null ? {} : { FPort: port.value }) };
  try {
    const answer = await call("POST", path("downlinkMessages", id), { body: { DevEUI_downlink: document } });
    const mark = answer.correlationId ? ` Its correlation id is ${answer.correlationId}.` : "";
    result.replaceChildren(h("p", { class: "callout good" }, `Accepted for ${answer.devEui || document.DevEUI}: it is on disk and goes to the network server.${mark}`),
      ...(answer.warnings ?? []).map((text) => h("p", { class: "callout busy" }, sentence(text))));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    refused(error, fields, summary);
  }
}

/** A refusal names the field, as problem details or as the outcome of the downlink. */
function refused(error, fields, summary) {
  const { outcome, field, reason } = error.body;
  const lead = outcome ? `The downlink was ${outcome}: ${reason || "no reason was given"}` : error.message;
  const errors = outcome && field && fields.some((one) => one.property === field) ? [{ property: field, detail: sentence(reason) }] : error.errors;
  showErrors(fields, summary, sentence(lead), errors);
}
