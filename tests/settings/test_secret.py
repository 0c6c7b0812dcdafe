"""A secret does not show itself."""

from __future__ import annotations

import logging

import msgspec
import pytest

from mqttbridge.settings.secret import MASK, Secret

PLAIN = "hunter2"


class Holder(msgspec.Struct):
    """Something that has a secret."""

    secret: Secret


def test_no_way_of_printing_shows_it() -> None:
    secret = Secret(PLAIN)
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>20}",
        f"{secret:>20}",
        "{}".format(secret),  # noqa: UP032 - the way that is tested
        "%s %r" % (secret, secret),  # noqa: UP031 - the way that is tested
        repr([secret]),
        repr({"a": secret}),
        repr(Holder(secret)),
        logging.LogRecord("a", 10, "p", 1, "%s", (secret,), None).getMessage(),
    ]
    for text in shown:
        assert PLAIN not in text
        assert MASK in text


def test_only_reveal_gives_a_plain_string() -> None:
    revealed = Secret(PLAIN).reveal()
    assert type(revealed) is str
    assert f"{revealed}" == PLAIN


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.to_builtins])
def test_no_encoder_takes_it_by_accident(encode: object) -> None:
    assert callable(encode)
    with pytest.raises(TypeError):
        encode(Holder(Secret(PLAIN)))


def test_it_equals_its_text() -> None:
    assert Secret(PLAIN) == PLAIN
    assert hash(Secret(PLAIN)) == hash(PLAIN)


def test_a_secret_made_of_a_secret_keeps_its_text() -> None:
    assert Secret(Secret("hidden")).reveal() == "hidden"
