"""Who guesses is slowed down, and nobody else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.api import slowing
from mqttbridge.api.slowing import FORGET, LONGEST, MAX_CLIENTS, MAX_WAITING, PER_CLIENT, Slowing, client_of


def test_each_wrong_token_waits_twice_as_long_up_to_five_seconds() -> None:
    slow, waits = Slowing(), []
    for now in range(9):
        waits.append(slow.failed("a", now))
        slow.waited("a")
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert slow.failed("b", 9) == 0.1, "another one begins anew"
    assert slow.waiting == 1


def test_while_some_wait_no_further_token_of_this_client_is_looked_at() -> None:
    slow = Slowing()
    for _ in range(PER_CLIENT):
        assert slow.closed_for("a", 0) == 0
        slow.failed("a", 0)
    assert slow.closed_for("a", 0) == LONGEST
    assert slow.closed_for("b", 0) == 0
    slow.waited("a")
    assert slow.closed_for("a", 0) == 0


def test_who_was_well_for_long_is_as_good_as_new() -> None:
    slow = Slowing()
    for _ in range(PER_CLIENT):
        slow.failed("a", 0)
        slow.waited("a")
    assert slow.failed("a", FORGET + 1) == 0.1


def test_if_too_many_wait_a_client_is_shut_out_for_as_long_instead() -> None:
    slow = Slowing()
    for number in range(MAX_WAITING):
        assert slow.failed(f"c{number}", 0) is not None
    assert slow.failed("a", 0) is None
    assert slow.closed_for("a", 0) == 0.1
    assert slow.closed_for("a", 0.2) == 0
    assert slow.closed_for("c0", 0) == 0, "who waits may have the right token next"
    assert slow.waiting == MAX_WAITING


def test_memory_is_bounded_and_who_waits_is_not_forgotten() -> None:
    slow = Slowing()
    for number in range(PER_CLIENT):
        slow.failed("first", number)
    for number in range(3 * MAX_CLIENTS):
        if slow.failed(f"c{number}", 10) is not None:
            slow.waited(f"c{number}")
    assert len(slow) <= MAX_CLIENTS
    assert slow.closed_for("first", 10) == LONGEST


def test_a_client_is_an_address_or_a_network_of_ipv6() -> None:
    assert client_of("192.0.2.7") == client_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1%eth0") == "2001:db8::/64"
    assert client_of("2001:db8:0:1::1") != client_of("2001:db8::1")
    assert client_of("") == ""
    assert client_of("testclient") == "testclient"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 200), st.booleans()), max_size=150))
def test_the_numbers_add_up_whatever_happens(steps: list[tuple[str, float, bool]]) -> None:
    before = slowing.MAX_CLIENTS, slowing.MAX_WAITING
    slowing.MAX_CLIENTS, slowing.MAX_WAITING = 4, 6
    try:
        slow, now, waiting = Slowing(), 0.0, []
        for client, later, ends in steps:
            now += later
            if ends and waiting:
                slow.waited(waiting.pop(0))
            elif not slow.closed_for(client, now) and slow.failed(client, now) is not None:
                waiting.append(client)
            assert slow.waiting == len(waiting) <= 6
            assert all(waiting.count(one) <= PER_CLIENT for one in "abcdefgh")
            assert len(slow) <= 8
    finally:
        slowing.MAX_CLIENTS, slowing.MAX_WAITING = before
