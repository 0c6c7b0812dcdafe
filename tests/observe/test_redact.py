"""No planted secret leaves, in whatever form and wherever it stands; nothing else is changed; nothing raises."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.model import Outcome
from mqttbridge.observe.redact import MASK, Redactor, describe
from mqttbridge.settings.secret import Secret

SECRET = 'pä"ss/w\\örd+&= \n€'


def redactor(*secrets: str) -> Redactor:
    """Give one that knows these."""
    made = Redactor()
    made.add(*secrets)
    return made


def forms_of(secret: str) -> dict[str, str]:
    """In how many ways a secret travels, each made by the code that would make it."""
    raw = secret.encode()
    return {
        "plain": secret,
        "JSON": json.dumps(secret)[1:-1],
        "JSON, not ASCII": json.dumps(secret, ensure_ascii=False)[1:-1],
        "repr": repr(secret)[1:-1],
        "repr of bytes": repr(raw)[2:-1],
        "form": urllib.parse.quote_plus(secret),
        "URL": urllib.parse.quote(secret, safe=""),
        "path": urllib.parse.quote(secret),
        "base64": base64.b64encode(raw).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(raw).decode(),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
    }


@pytest.mark.parametrize("form", forms_of(SECRET))
def test_a_secret_is_masked_in_each_form_in_which_it_travels(form: str) -> None:
    text = forms_of(SECRET)[form]
    masked = redactor(SECRET).text(f"before {text} after {text}")
    assert masked.rstrip("=").replace("*****== ", "***** ").replace("*****= ", "***** ") == "before ***** after *****"


def test_percent_encoding_in_lower_case_is_masked() -> None:
    assert redactor("a/b?c&d").text("x=a%2fb%3fc%26d") == "x=*****"


@pytest.mark.parametrize("user", ["u", "us", "use", "user"])
def test_a_password_in_a_basic_authorisation_is_masked_at_every_alignment(user: str) -> None:
    password = "correct-horse-battery"
    header = base64.b64encode(f"{user}:{password}".encode()).decode()
    masked = redactor(password).text(f"Authorization: Basic {header}")
    shown = masked.removeprefix("Authorization: Basic ")
    assert MASK in shown
    left = shown.replace(MASK, "")
    # What is left holds the user, and at most a part of one character of the password at either end.
    assert len(left) <= len(base64.b64encode(f"{user}:".encode())) + 4


def test_a_hexadecimal_key_is_masked_in_either_case() -> None:
    key = "00112233445566778899aabbccddeeff"
    assert redactor(key).text(f"{key} {key.upper()}") == "***** *****"
    assert redactor(key.upper()).text(f"{key} {key.upper()}") == "***** *****"


def pem(kind: str) -> str:
    """Give a private key."""
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    encoding = serialization.PrivateFormat.PKCS8 if kind == "ec" else serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, encoding, serialization.NoEncryption()).decode()


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_every_line_of_a_private_key_is_a_secret(kind: str) -> None:
    key = pem(kind)
    made = redactor(key)
    body = [line for line in key.splitlines() if "-----" not in line]
    for line in body:
        assert made.text(f"unexpected data at {line!r}") == "unexpected data at '*****'"
    for text in (key, "".join(body), key.replace("\n", "\r\n"), json.dumps(key), repr(key), "  ".join(body)):
        masked = made.text(text)
        assert not [line for line in body if line in masked]


def test_a_short_secret_is_masked_only_where_it_is_the_whole_value() -> None:
    made = redactor("no", "a")
    assert made.plain({"password": "no", "text": "not a banana", "list": ["a", "ab"]}) == {
        "password": MASK,
        "text": "not a banana",
        "list": [MASK, "ab"],
    }


def test_an_empty_secret_masks_nothing() -> None:
    made = redactor("", "   ", "\n")
    assert made.text("a text with spaces") == "a text with spaces"
    assert made.text("") == ""


def test_a_secret_with_its_line_break_is_masked_without_it() -> None:
    assert redactor("hunter2x\n").text("password hunter2x!") == "password *****!"


def test_secrets_that_begin_alike_or_overlap_are_masked_whole() -> None:
    assert redactor("pass", "password", "pass1234").text("pass password pass1234") == "***** ***** *****"
    assert redactor("abcdef", "defghi").text("xabcdefghix") == "x*****x"


def test_secrets_planted_later_are_masked_from_then_on() -> None:
    made = redactor("first-one")
    assert made.text("second-one") == "second-one"
    made.add("second-one")
    assert made.text("first-one second-one") == "***** *****"


def test_a_secret_planted_as_a_secret_is_masked_as_plain_text() -> None:
    assert redactor(Secret("swordfish")).text("the swordfish") == "the *****"


def test_secrets_are_masked_even_when_not_planted() -> None:
    made = redactor()
    assert made.plain({"a": Secret("swordfish"), "b": [Secret("x")]}) == {"a": MASK, "b": [MASK]}
    assert made.text(Secret("swordfish")) == MASK


class Broken:
    """Nothing of it can be asked."""

    def __repr__(self) -> str:
        """Misbehave."""
        raise RuntimeError("no")

    def __len__(self) -> int:
        """Misbehave."""
        raise RuntimeError("no")


class Leaky:
    """It shows a secret."""

    def __repr__(self) -> str:
        """Misbehave."""
        return "<Leaky swordfish>"


class Account(msgspec.Struct):
    """A struct with a secret in it."""

    name: str
    password: Secret


def test_secrets_are_masked_at_any_depth_in_any_kind_of_value() -> None:
    value = {
        "swordfish": 1,
        b"swordfish": 2,
        "list": ["swordfish", ("swordfish",), {"swordfish"}, frozenset({b"a swordfish"})],
        "bytes": [b"swordfish", bytearray(b"swordfish"), memoryview(b"swordfish")],
        "error": ValueError("bad password swordfish"),
        "group": ExceptionGroup("swordfish", [OSError(2, "swordfish")]),
        "path": Path("/run/swordfish"),
        "object": Leaky(),
        "type": type("swordfish", (), {}),
    }
    shown = json.dumps(redactor("swordfish").plain(value))
    assert "swordfish" not in shown
    assert shown.count(MASK) >= 12


def test_a_number_that_is_the_secret_is_masked() -> None:
    assert redactor("12345678").plain({"pin": 12345678, "other": 123456789}) == {"pin": MASK, "other": 123456789}


def test_ordinary_values_stay_what_they_are() -> None:
    value = {"a": 1, "b": 1.5, "c": None, "d": True, "e": "text", "f": ["x", 2], "g": {"h": "ü"}}
    assert redactor("swordfish").plain(value) == value


def test_odd_values_become_something_that_json_can_hold() -> None:
    cycle: dict[str, Any] = {"name": "loop"}
    cycle["self"] = [cycle]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    value = {
        "cycle": cycle,
        "deep": deep,
        "broken": Broken(),
        "surrogate": "a\udcffb",
        "bytes": b"\xff\xfe",
        "huge": 10**400,
        "beyond": 10**5000,
        "int64": 2**64,
        "enum": Outcome.PARKED,
        "nan": float("nan"),
        "many": list(range(100_000)),
        "wide": {str(n): n for n in range(1000)},
        "long": "x" * 1_000_000,
        1: "a key that is a number",
        None: "a key that is nothing",
        "struct": Account("acme", Secret("swordfish")),
    }
    encoded = msgspec.json.encode(redactor("swordfish").plain(value))
    assert len(encoded) < 64 * 1024
    decoded = msgspec.json.decode(encoded)
    assert decoded["broken"] == "<Broken that cannot be shown>"
    assert decoded["surrogate"] == "a\\udcffb"
    assert decoded["bytes"] == "\\xff\\xfe"
    assert decoded["enum"] == 2
    assert decoded["1"] == "a key that is a number"
    assert b"swordfish" not in encoded


def test_a_secret_across_the_cut_of_a_long_text_does_not_leak_its_first_half() -> None:
    secret = "0123456789abcdefghijklmnopqrstuvwxyz"
    made = redactor(secret)
    for length in (16_384, 65_536):
        for before in range(length - len(secret), length + 1):
            shown = made.plain("x" * before + secret)
            assert "0123" not in shown


@given(st.text(min_size=4, max_size=40).filter(str.strip), st.text(max_size=40), st.text(max_size=40))
def test_no_text_keeps_a_secret(secret: str, before: str, after: str) -> None:
    made = redactor(secret)
    shown = made.text(before + secret + after)
    assert MASK in shown
    assert not [part for part in shown.split(MASK) if secret in part]


@given(st.text(min_size=4, max_size=12), st.text(max_size=60))
def test_a_text_without_a_secret_is_given_back_as_it_is(secret: str, text: str) -> None:
    made = Redactor()
    made.add("\N{SNOWMAN}" * 4 + secret)
    if "\N{SNOWMAN}" not in text:
        assert made.text(text) is text


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
        max_leaves=20,
    ),
)
def test_whatever_comes_can_be_encoded(value: object) -> None:
    msgspec.json.encode(redactor("swordfish").plain(value))


def test_thousands_of_secrets_cost_no_more_than_a_few() -> None:
    few, many = Redactor(), Redactor()
    few.add(*(f"secret-{n:08x}-of-one" for n in range(3)))
    many.add(*(f"{n * 2654435761 % 2**32:08x}-secret" for n in range(5000)))
    text = "connection acme: the broker did not answer in time, it is tried again in 4.2 s; " * 5

    def cost(made: Redactor) -> float:
        best = float("inf")
        for _ in range(20):
            begin = time.perf_counter()
            for _ in range(20):
                made.text(text)
            best = min(best, time.perf_counter() - begin)
        return best

    assert cost(many) < 5 * cost(few)


def test_an_exception_is_described_by_type_and_message() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            """Misbehave."""
            raise RuntimeError("no")

    assert describe(ValueError("odd")) == "ValueError: odd"
    assert describe(TimeoutError()) == "TimeoutError"
    assert describe(Mute()) == "Mute: (its message cannot be shown)"
    group = ExceptionGroup("two", [ValueError("a"), ExceptionGroup("one", [OSError("b")])])
    assert describe(group) == "ExceptionGroup: two: ValueError: a; ExceptionGroup: one: OSError: b"


def test_a_secret_is_masked_until_everyone_who_planted_it_took_it_out() -> None:
    made = Redactor()
    gone = [made.add("swordfish", "hunter22"), made.add("swordfish")]
    gone[0]()
    assert made.text("swordfish hunter22") == f"{MASK} hunter22"
    gone[1]()
    assert made.text("swordfish") == "swordfish"
    assert made._whole == made._forms == made._planted == {}


def test_forms_that_two_secrets_share_stay_masked_as_long_as_one_is_known() -> None:
    made = Redactor()
    made.add("swordfish")
    made.add(" swordfish ")()
    assert made.text("a swordfish") == f"a {MASK}"
