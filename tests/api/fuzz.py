"""The API against its own OpenAPI document. `python -m tests.api.fuzz [EXAMPLES]` tries much more than the tests do.

With $MQTTBRIDGE_API_URL and $MQTTBRIDGE_API_TOKEN it asks a running daemon, whose connections and flows it overwrites.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import schemathesis
from schemathesis.config import SchemathesisConfig

from mqttbridge.api.app import make_api
from mqttbridge.control.local import ROLE
from tests.api.fakes import Daemon

if TYPE_CHECKING:
    from mqttbridge.sources.asgi import Receive, Scope, Send

LONG = "MQTTBRIDGE_API_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("MQTTBRIDGE_API_EXAMPLES", "12"))
"""Requests per operation, beside those (hundreds) that look for the edges of the document if it takes long."""
SEED = 5
URL = os.environ.get("MQTTBRIDGE_API_URL", "")
HEADERS = {"Authorization": f"Bearer {os.environ['MQTTBRIDGE_API_TOKEN']}"} if URL else {}
# A document may have the right types and still be wrong, or come too late.
SOUND = ["2xx", "400", "403", "404", "409", "412", "422"]
REFUSED = ["400", "404", "405", "409", "412", "413", "415", "422"]
CONFIG: dict[str, Any] = {
    "seed": SEED,
    "phases": {"coverage": {"enabled": LONG}},
    "checks": {
        "positive_data_acceptance": {"expected-statuses": SOUND},
        "negative_data_rejection": {"expected-statuses": REFUSED},
    },
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the fakes to an admin."""
    if scope["type"] == "http":
        await _api({**scope, ROLE: "admin"}, receive, send)


daemon = Daemon()
_api = make_api(daemon, daemon)
_known = {"/connections": ("acme", "acme", "main-owned"), "/downlinkMessages": ("acme",), "/flows": ("temperature",)}


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:  # noqa: ANN401
    """Ask for something that is there, mostly: the names that come of a schema name nothing."""
    if not path_parameters or "id" not in path_parameters:
        return path_parameters
    choice = sum(str(path_parameters["id"]).encode("utf-8", "replace")) % 5
    known = _known["/" + context.operation.path.split("/")[1]]
    return path_parameters if choice == 0 else {"id": known[choice % len(known)]}


def schema() -> Any:  # noqa: ANN401 - of schemathesis
    """Load the document from the application itself."""
    config = SchemathesisConfig.from_dict(CONFIG)
    if URL:
        return schemathesis.openapi.from_url(f"{URL}/openapi.json", headers=HEADERS, config=config)
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)


if __name__ == "__main__":
    os.environ["MQTTBRIDGE_API_EXAMPLES"] = sys.argv[1] if len(sys.argv) > 1 else "300"
    options = ["-q", "-o", "timeout=7200", "tests/api/test_schemathesis.py"]
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *options])  # noqa: S606 (ourselves)
