// Where the page begins: the session, the theme, and which view belongs to which address.

import { ApiError, call } from "./api.js";
import { startTheme } from "./appearance.js";
import { leave, place, show, startRouter } from "./router.js";
import { forget, mayEdit, roleName, setRole, signedIn, token } from "./session.js";
import { connectionPage } from "./view-connection.js";
import { editConnection, newConnection } from "./view-connection-form.js";
import { connectionsPage } from "./view-connections.js";
import { eventsPage } from "./view-events.js";
import { editFlow, newFlow } from "./view-flow-form.js";
import { flowsPage } from "./view-flows.js";
import { signInPage } from "./view-sign-in.js";

const ROUTES = [
  ["/connections", connectionsPage],
  ["/connections/new", newConnection],
  ["/connections/:id", connectionPage],
  ["/connections/:id/edit", editConnection],
  ["/flows", flowsPage],
  ["/flows/new", newFlow],
  ["/flows/:id", editFlow],
  ["/events", eventsPage],
].map(([pattern, view]) => [pattern, (context) => (signedIn() ? view(context) : signInPage("", enter))]);

function furnish() {
  const inside = signedIn();
  document.getElementById("nav").hidden = !inside;
  document.getElementById("sign-out").hidden = !inside;
  const role = document.getElementById("role");
  role.hidden = !inside || mayEdit();
  role.textContent = roleName();
}

function enter() {
  furnish();
  show();
}

/** A reload keeps the session, if the token still holds. */
async function resume() {
  if (token() === null) return "";
  try {
    const { role } = await call("GET", "/session");
    setRole(role);
    return "";
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) forget();
    return error.status === 401 ? "The token is not valid any more. Sign in again." : error.message;
  }
}

startTheme();
startRouter(ROUTES);
window.addEventListener("signed-out", (event) => {
  leave();
  furnish();
  place(signInPage(event.detail, enter));
});
document.getElementById("sign-out").addEventListener("click", () => forget("You are signed out."));
const problem = await resume();
furnish();
if (signedIn()) show();
else place(signInPage(problem, enter));
