// Signing in with a token of the configuration.

import { ApiError, call } from "./api.js";
import { textField } from "./controls.js";
import { h } from "./dom.js";
import { busy } from "./form.js";
import { drop, remember, setRole } from "./session.js";

/** `then` is called when the daemon took the token. */
export function signInPage(why, then) {
  const field = textField({ property: "token", label: "Token", type: "password", autocomplete: "current-password",
    help: "One of the tokens under api: in mqttbridge.yaml. It is kept in this tab alone. Without a token only the Unix socket lets you in." });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const said = h("div", { role: "status" }, why ? h("p", { class: "callout" }, why) : null);
  const form = h("form", { novalidate: true }, field.node, h("div", { class: "buttons" }, button));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(button, () => signIn(field, then));
  });
  return { title: "Sign in", focus: field.input,
    node: h("div", { class: "sign-in" }, h("div", { class: "card stack" }, h("h1", {}, "Sign in"), said, form)) };
}

async function signIn(field, then) {
  field.setError("");
  const value = field.value?.trim() ?? "";
  if (/[^\x21-\x7e]/.test(value)) {
    field.setError("A token has no spaces and only ASCII characters.");
    field.input.focus();
    return;
  }
  remember(value);
  try {
    const { role } = await call("GET", "/session");
    setRole(role);
    then();
  } catch (error) {
    drop();
    if (!(error instanceof ApiError)) throw error;
    field.setError(error.status === 401 ? wrong(value) : error.message);
    field.input.focus();
  }
}

const wrong = (value) => (value ? "The daemon does not know this token." : "The daemon asks for a token here.");
