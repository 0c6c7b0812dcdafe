// The list of flows: which uplinks go to which connections.

import { call, path } from "./api.js";
import { h } from "./dom.js";
import { mayEdit } from "./session.js";
import { row, table } from "./table.js";

const COLUMNS = [{ label: "Flow" }, { label: "Uplinks of" }, { label: "Go to" }];

export async function flowsPage({ signal }) {
  const { flows } = await call("GET", "/flows", { signal });
  const add = mayEdit() ? h("a", { class: "button primary", href: "#/flows/new" }, "New flow") : null;
  return { title: "Flows", node: h("div", {},
    h("div", { class: "head" }, h("h1", {}, "Flows"), h("div", { class: "buttons" }, add)),
    h("div", { class: "card" }, flows.length ? list(flows) : empty())) };
}

function empty() {
  return h("div", { class: "empty" }, h("p", {}, "There are no flows: every active connection gets every uplink."));
}

function list(flows) {
  const { node, body } = table("Flows", COLUMNS);
  body.append(...flows.map((flow) => row(COLUMNS, [
    h("div", {}, h("a", { href: `#${path("flows", flow.id)}` }, flow.name || flow.id), h("span", { class: "why" }, flow.description)),
    matchersNode(flow.matchers),
    h("div", {}, flow.connections.map((id, place) => [place ? ", " : null, h("a", { href: `#${path("connections", id)}` }, id)])),
  ])));
  return node;
}

/** Matchers in words. */
function matchersNode(matchers) {
  if (!matchers.length) return "Every device";
  return h("div", {}, matchers.map((one, place) => h("div", {}, place ? "or " : null,
    one.type === "key" ? ["the device ", h("span", { class: "mono" }, one.key.replace(/^lora:/i, ""))] : ["devices tagged ", h("strong", {}, one.tags.join(" and "))])));
}
