"""Which requests come from another web site."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.api.origin import foreign


def asked(
    *,
    origin: str | None = None,
    host: str | None = "h:8080",
    site: str = "",
    method: str = "POST",
    scheme: str = "http",
) -> str:
    """Give why it is refused."""
    given = {b"origin": origin, b"host": host, b"sec-fetch-site": site or None}
    headers = [(name, value.encode()) for name, value in given.items() if value is not None]
    return foreign(method, scheme, headers)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        (None, "h:8080", "http"),
        (None, None, "http"),
        ("http://h:8080", "h:8080", "http"),
        ("http://H:8080", "h:8080", "http"),
        ("https://h:8080", "h:8080", "https"),
        ("https://h", "h", "https"),
        ("https://h", "h:443", "https"),
        ("http://h", "h:80", "http"),
        ("http://[::1]:8080", "[::1]:8080", "http"),
        ("https://h", "h", "http"),
    ],
)
def test_our_own_page_and_who_is_no_browser_may_ask(origin: str | None, host: str | None, scheme: str) -> None:
    for method in ("GET", "POST"):
        assert not asked(origin=origin, host=host, scheme=scheme, method=method)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://evil", "h:8080", "http"),
        ("http://h", "h:8080", "http"),
        ("http://h:8081", "h:8080", "http"),
        ("http://h:8080", "h:8080", "https"),
        ("https://h", "h:80", "http"),
        ("null", "h:8080", "http"),
        ("", "h:8080", "http"),
        ("http://h:8080", None, "http"),
        ("http://h:8080", "", "http"),
        ("http://h:8080/", "h:8080", "http"),
        ("http://h:8080, http://evil", "h:8080", "http"),
        ("http://h:8080@evil", "h:8080", "http"),
        ("http://h:8080", "x@h:8080", "http"),
        ("http://h:99999", "h:99999", "http"),
        ("http://h.evil:8080", "h:8080", "http"),
        ("ftp://h:8080", "h:8080", "http"),
        ("h:8080", "h:8080", "http"),
    ],
)
def test_another_site_may_not_even_read(origin: str, host: str | None, scheme: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert "another web site" in asked(origin=origin, host=host, scheme=scheme, method=method)


@pytest.mark.parametrize(
    ("site", "may"), [("same-origin", True), ("none", True), ("cross-site", False), ("same-site", False)]
)
def test_a_browser_that_says_whence_it_comes_is_believed_for_changes(site: str, may: bool) -> None:
    assert (not asked(site=site)) is may
    assert not asked(site=site, method="GET"), "a link to the page may stand anywhere"


def test_what_stands_twice_is_nobodys() -> None:
    one, two = (b"origin", b"http://h"), (b"origin", b"http://evil")
    host = (b"host", b"h")
    assert not foreign("GET", "http", [one, host])
    for headers in ([one, two, host], [two, one, host], [one, one, host], [one, host, host]):
        assert foreign("GET", "http", headers)


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_nothing_breaks_it(origin: bytes, host: bytes) -> None:
    foreign("POST", "http", [(b"origin", origin), (b"host", host)])
