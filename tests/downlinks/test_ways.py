"""What answers mean, whatever they are: every one is taken, refused or for later, in a sentence that can be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.downlinks.network import Later, Refused, Taken
from mqttbridge.downlinks.ways import Api, ChirpStackApi, Credentials, LrcApi, ThingsStackApi
from tests.networks.samples import AS_ID, AS_KEY, pending

URL = "https://ns.example.com"
APIS = [LrcApi(URL, lambda _: Credentials()), ChirpStackApi(URL, "key"), ThingsStackApi(URL, "key", "hook")]
TEXTS = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300).map(lambda data: data.decode(errors="replace")),
    st.sampled_from(["", "<p>", "{", '{"message":1}', '{"code":3,"message":"\\u0000\\n"}', "[" * 5000, "<b>" * 5000]),
)


@pytest.mark.parametrize("api", APIS, ids=lambda api: type(api).__name__)
@given(status=st.integers(100, 999), text=TEXTS, whole=st.booleans())
def test_every_answer_has_a_verdict_and_a_short_sentence(api: Api, status: int, text: str, whole: bool) -> None:
    answer = api.answer(status, text, whole=whole)
    if isinstance(answer, Taken):
        assert 200 <= status < 300 or status in {409, 500}
        return
    assert isinstance(answer, Refused | Later)
    assert isinstance(answer, Refused) or status >= 400 or not whole
    assert answer.reason.startswith(api.name)
    assert answer.reason.isprintable()
    assert len(answer.reason) < 500


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("https://lrc.example.com", "https://lrc.example.com/thingpark/lrc/rest/downlink?DevEUI="),
        ("https://lrc.example.com/", "https://lrc.example.com/thingpark/lrc/rest/downlink?DevEUI="),
        ("https://lrc.example.com/own/path", "https://lrc.example.com/own/path?DevEUI="),
        ("https://lrc.example.com/own?a=b", "https://lrc.example.com/own?a=b&DevEUI="),
    ],
)
def test_the_url_of_an_lrc_may_be_its_base_or_whole(url: str, whole: str) -> None:
    assert LrcApi(url, lambda _: Credentials()).post(pending(), 0).url.startswith(whole)


def test_the_token_of_a_request_is_known_as_a_secret() -> None:
    post = LrcApi(URL, lambda _: Credentials(AS_ID, AS_KEY)).post(pending(), 1_767_323_045_678)
    (token,) = post.secrets
    assert len(token) == 64
    assert post.url.endswith(token)
    assert "Time=2026-01-02T03%3A04%3A05.678%2B00%3A00" in post.url
    assert AS_KEY not in post.url
