"""Which hosts a list of names, addresses and networks allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.settings.allowlist import allowed, entry


@pytest.mark.parametrize(
    ("host", "allowlist"),
    [
        ("anything", []),
        ("broker.example.com", ["broker.example.com"]),
        ("BROKER.Example.COM.", ["broker.example.com"]),
        ("broker.example.com", ["BROKER.example.com."]),
        ("a.example.com", ["*.example.com"]),
        ("a.b.example.com", ["*.example.com"]),
        ("eu-1.broker.example", ["eu-*.broker.example"]),
        ("münchen.example", ["xn--mnchen-3ya.example"]),
        ("xn--mnchen-3ya.example", ["münchen.example"]),
        ("a。example.com", ["*.example.com"]),
        ("192.0.2.7", ["192.0.2.0/24"]),
        ("192.0.2.7", ["192.0.2.7"]),
        ("::ffff:192.0.2.7", ["192.0.2.7"]),
        ("2001:DB8::0:1", ["2001:db8::1"]),
        ("2001:db8::1", ["[2001:db8::1]"]),
        ("2001:db8:1::1", ["2001:db8::/32"]),
        ("fe80::1%eth0", ["fe80::/10"]),
        ("localhost", ["other", "localhost"]),
    ],
)
def test_what_an_entry_names_is_allowed(host: str, allowlist: list[str]) -> None:
    assert allowed(host, [entry(one) for one in allowlist])


@pytest.mark.parametrize(
    ("host", "allowlist"),
    [
        ("example.com", ["*.example.com"]),
        (".example.com", ["*.example.com"]),
        ("evilexample.com", ["*.example.com"]),
        ("broker.example.com.evil.net", ["broker.example.com", "*.example.com"]),
        ("brokerXexample.com", ["broker.example.com"]),
        ("broker.example.com\n", ["broker.example.com"]),
        ("a b.example.com", ["*.example.com"]),
        ("192.0.2.7", ["*"]),
        ("192.0.2.7", ["*.7", "*7", "1*7"]),
        ("::1", ["*"]),
        ("127.1", ["*", "*.1a"]),
        ("2130706433", ["*"]),
        ("0x7f000001", ["*"]),
        ("0x7f.0.0.0x1", ["*"]),
        ("017700000001", ["*"]),
        ("127.0.0.1.", ["*"]),
        ("127.0.0.1", ["192.0.2.0/24", "::/0"]),
        ("::ffff:127.0.0.1", ["::/0"]),
        ("::ffff:7f00:1", ["::ffff:0:0/96"]),
        ("::1", ["0.0.0.0/0"]),
        ("192.0.3.7", ["192.0.2.0/24"]),
        ("", ["*"]),
        ("..", ["*"]),
        ("x" * 300 + "ü", ["*"]),
    ],
)
def test_what_no_entry_names_is_not(host: str, allowlist: list[str]) -> None:
    assert not allowed(host, allowlist)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "[a",
        "[a]",
        "a/b",
        "broker.example.com:8883",
        "https://a",
        "192.0.2.0/33",
        "192.0.2.1/24",
        "10.*",
        "*.1",
        "127.1",
        "0x7f000001",
        "a..b",
        "-a",
        "a,b",
        "::1%eth0/64",
        "x" * 300,
    ],
)
def test_what_is_no_entry_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as (192\.0\.2\.0/24|\*\.example\.com|broker\.example\.com)"):
        entry(text)


@given(st.text(max_size=40))
def test_no_host_and_no_entry_breaks_it_and_an_entry_allows_itself(text: str) -> None:
    assert not allowed(text, ["192.0.2.1", "none.example"])
    try:
        one = entry(text)
    except ValueError:
        return
    assert entry(one) == one
    if "*" not in one and "/" not in one:
        assert allowed(text.strip(), [one])


@given(st.ip_addresses())
def test_an_address_is_never_allowed_by_a_name(address: object) -> None:
    assert not allowed(str(address), ["*", "*.example.com", "localhost"])
