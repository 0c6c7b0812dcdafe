"""The API against its own OpenAPI document: no 500, no answer that is not documented."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.api import fuzz

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(7200 if fuzz.LONG else 120)]

schema = fuzz.schema()


@schema.parametrize()
@settings(
    max_examples=fuzz.EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_documented(case: Any) -> None:  # noqa: ANN401 - of schemathesis
    fuzz.daemon.reset()
    case.call_and_validate(headers=fuzz.HEADERS)
