// Between a connection's document and the values of the form, by property path.

import { duration } from "./format.js";

/** Read what stands at a path such as `configuration.hostName`. */
export function at(document, property) {
  return property.split(".").reduce((inner, name) => inner?.[name], document);
}

/** What the form shows for a document; for a new one (null) what a field begins with. */
export function shownValue(spec, document) {
  const value = document ? at(document, spec.property) : undefined;
  if (value === undefined || value === null) return document && spec.kind !== "check" && !spec.required ? null : spec.initial ?? null;
  return spec.kind === "duration" ? duration(value) : value;
}

/**
 * Make the document that is sent: what was there (`base`), and over it what the form says. Fields that are not shown or
 * empty are left out, and so are check boxes that stand as they would without being told.
 */
export function made(fields, base) {
  const document = { connectorId: "actility-mqtt-iot", ...structuredClone(base ?? {}) };
  document.configuration = { ...document.configuration };
  for (const field of fields) {
    const { property, kind, initial } = field.spec;
    const [name, inner] = property.split(".");
    const target = inner ? document.configuration : document;
    const value = field.shown ? field.value : null;
    const usual = kind === "check" && inner && value === initial && !(inner in target);
    if (value === null || usual) delete target[inner ?? name];
    else target[inner ?? name] = value;
  }
  return document;
}

/** The part of a ConnectionView that is the document. */
export function documentOf({ connectorId, name, active, alarms, configuration }) {
  return { connectorId, name, active, ...(alarms?.length ? { alarms } : {}), configuration };
}
