"""Host names and addresses: what people write, and what they are told to write instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.settings import address


@pytest.mark.parametrize(
    ("text", "protocol", "result"),
    [
        ("broker.example.com", "SSL", ("broker.example.com", 8883)),
        ("broker.example.com", "TCP", ("broker.example.com", 1883)),
        ("broker.example.com", "WSS", ("broker.example.com", 443)),
        ("broker.example.com:61619", "WSS", ("broker.example.com", 61619)),
        ("localhost:1", "TCP", ("localhost", 1)),
        ("my_broker:65535", "TCP", ("my_broker", 65535)),
        ("192.0.2.1:1883", "TCP", ("192.0.2.1", 1883)),
        ("[::1]:1883", "TCP", ("::1", 1883)),
        ("[2001:db8::1]", "SSL", ("2001:db8::1", 8883)),
        ("[fe80::1%eth0]:1883", "TCP", ("fe80::1%eth0", 1883)),
        ("broker.example.com.", "SSL", ("broker.example.com.", 8883)),
        ("bücher.example", "SSL", ("bücher.example", 8883)),
    ],
)
def test_hosts_with_and_without_ports(text: str, protocol: str, result: tuple[str, int]) -> None:
    assert address.broker(text, protocol) == result


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("mqtt://h.example:1883", 'write "hostName: h.example:1883" and "protocol: TCP"'),
        ("tcp://h.example", 'write "hostName: h.example" and "protocol: TCP"'),
        ("mqtts://h.example:8883", 'write "hostName: h.example:8883" and "protocol: SSL"'),
        ("ssl://h.example", 'and "protocol: SSL"'),
        ("SSL://h.example", 'and "protocol: SSL"'),
        ("wss://h.example:443/ws", '"hostName: h.example:443" and "protocol: WSS" and "webSocketPath: /ws"'),
        ("http://h.example", 'without http://; write "hostName: h.example"'),
        ("https://h.example/x", 'write "hostName: h.example"'),
        ("mqtt://", 'write "hostName: broker.example.com"'),
    ],
)
def test_a_url_is_refused_with_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(ValueError) as caught:
        address.broker(text, "SSL")
    assert advice in str(caught.value)


@pytest.mark.parametrize("text", ["mqtt://user:hunter2@h.example", "user:hunter2@h.example", "ssl://a@hunter2@h"])
def test_a_password_in_a_url_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        address.broker(text, "SSL")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("h.example/mqtt", "without a path"),
        ("h.example:1883/mqtt", "without a path"),
        ("h example", "spaces"),
        (" h.example", "spaces"),
        ("h.example\n", "spaces"),
        ("h\x00", "control"),
        (":1883", "names no host"),
        ("h.example:", "port from 1"),
        ("h.example:0", "port from 1"),
        ("h.example:99999", "port from 1 to 65535"),
        ("h.example:-1", "port"),
        ("h.example:x", "port"),
        ("h.example:\u0661", "port"),
        ("::1", "brackets"),
        ("2001:db8::1:1883", "brackets"),
        ("[::1", "IPv6"),
        ("[::g]:1883", "IPv6"),
        ("[::1]1883", "IPv6"),
        ("[]:1883", "IPv6"),
        ("256.1.1.1", "IPv4"),
        ("1.2.3", "IPv4"),
        ("1883", "must be host or host:port, such as"),
        ("-h.example", "host name"),
        ("h..example", "host name"),
        ("a" * 64 + ".example", "host name"),
        ("a." * 128, "host name"),
        ("h,example", "host name"),
        ("ü" * 80, "host name"),
        ("ü." * 200, "longer than any host name"),
        (".", "IPv4"),
    ],
)
def test_what_cannot_be_a_broker_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        address.broker(text, "SSL")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::]:8080", ("::", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_addresses_to_listen_on(text: str, result: tuple[str, int]) -> None:
    assert address.listener(text) == result


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8080", "must be address:port, such as 127.0.0.1:8080"),
        (":8080", 'write 0.0.0.0:8080 or "[::]:8080"'),
        ("127.0.0.1", "names no port"),
        ("127.0.0.1:65536", "port from 0"),
        ("http://127.0.0.1:8080", "nothing else"),
        ("::", "brackets"),
    ],
)
def test_what_cannot_be_listened_on_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        address.listener(text)
    assert words in str(caught.value)


@given(st.text(), st.sampled_from(["SSL", "WSS", "TCP"]))
def test_any_text_is_an_address_or_a_value_error(text: str, protocol: str) -> None:
    try:
        host, port = address.broker(text, protocol)
    except ValueError:
        return
    assert host
    assert 1 <= port <= 65535
