// Who is signed in: the token for this tab alone, and what it may do.

const KEY = "mqttbridge-token";
let role = "";

/** The token; "" is a session without one (as on the Unix socket), null is none. */
export function token() {
  return sessionStorage.getItem(KEY);
}

export function remember(value) {
  sessionStorage.setItem(KEY, value);
}

export function setRole(value) {
  role = value;
}

export function signedIn() {
  return token() !== null && role !== "";
}

/** Whether the signed-in token may change anything. */
export function mayEdit() {
  return role === "admin";
}

export function roleName() {
  return role;
}

/** Forget a token that did not work; nothing else happens. */
export function drop() {
  sessionStorage.removeItem(KEY);
  role = "";
}

/** End the session; the page shows the sign-in with this sentence. */
export function forget(why = "") {
  if (token() === null && !role) return;
  drop();
  window.dispatchEvent(new CustomEvent("signed-out", { detail: why }));
}
