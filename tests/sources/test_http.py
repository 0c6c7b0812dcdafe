"""POST /uplink/<source>: what is accepted, every refusal, and bodies that come in odd ways."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from mqttbridge.errors import JournalFailed
from mqttbridge.observe import throttle
from mqttbridge.settings.schema import HttpSource, MqttSource
from mqttbridge.settings.secret import Secret
from mqttbridge.sources import asgi, intake
from mqttbridge.sources import http as sources_http
from tests.support.bridge import NDJSON, NOBODY, edited, to, until, uplink
from tests.support.inside import Told, inside, request, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mqttbridge.model import Uplink
    from tests.support.inside import Inside

AS_KEY = "00112233445566778899aabbccddeeff"
PUBLISHED_KEY = "f3203a20a2e8dfaf6686b621f56d05e3"


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Inside]:
    """Give a daemon with an open source, two signed ones, and a connection whose broker is down."""
    sources = {
        "lrc": {"transport": "http"},
        "signed": {"transport": "http", "asKey": AS_KEY},
        "published": {"transport": "http", "asKey": PUBLISHED_KEY},
        "ns": {"transport": "mqtt", "hostName": f"127.0.0.1:{NOBODY}", "protocol": "TCP", "topics": ["a"]},
    }
    async with inside(tmp_path, sources=sources, connections={"acme": to(NOBODY)}) as daemon:
        yield daemon


async def kept(daemon: Inside) -> int:
    return (await daemon.account("acme"))["routed"]


# -- what is accepted ------------------------------------------------------------------------------------------------


async def test_a_document_an_array_and_ndjson_are_accepted_with_their_number(here: Inside) -> None:
    array = b"[" + b",".join(uplink(n) for n in range(10, 13)) + b"]"
    lines = b"\n\r\n".join(uplink(n) for n in range(20, 24)) + b"\n\n"
    for body, media, count in (
        (uplink(1), "application/json", 1),
        (uplink(2), "application/json; charset=utf-8", 1),
        (uplink(3), "Application/vnd.thingpark+JSON", 1),
        (array, "application/json", 3),
        (lines, "application/x-ndjson", 4),
        (uplink(4), "application/x-ndjson", 1),
    ):
        before = await kept(here)
        answer = await here.post("lrc", body, headers={"content-type": media})
        assert (answer.status_code, answer.content) == (200, b'{"accepted": %d}' % count), (media, answer.text)
        assert answer.headers["content-type"] == "application/json"
        assert await kept(here) == before + count
    async with wire(here.url) as line:
        await line.send(request("POST", "/uplink/lrc", uplink(2)))
        assert (await line.answer()).status == 200, "no Content-Type: it is taken for JSON"


async def test_the_devices_name_may_have_dashes_and_lower_case_and_numbers_may_be_texts(here: Inside) -> None:
    legacy = edited(uplink(1), DevEUI="00-18-b2-00-00-00-0b-20", FCntUp="17", FPort="1")
    assert (await here.post("lrc", legacy)).status_code == 200
    (queued,) = await here.journal.read("acme", 0, 10)
    assert (queued.uplink.dev_eui, queued.uplink.fcnt, queued.uplink.body) == ("0018B20000000B20", 17, legacy)


async def test_uplinks_of_many_clients_at_once_are_all_kept(here: Inside) -> None:
    bodies = [uplink(number) for number in range(200)]
    answers = await asyncio.gather(*(here.post("lrc", body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    stored = [one.uplink.body for one in await here.journal.read("acme", 0, 1000)]
    assert sorted(stored) == sorted(bodies)


# -- what is refused -------------------------------------------------------------------------------------------------

UPLINK = "DevEUI_uplink."


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b"", None, "empty"),
        (b"not JSON", None, "not JSON"),
        (b'{"DevEUI_uplink": {"DevEUI": ', None, "not JSON"),
        (b"\xff\xfe", None, "UTF-8"),
        (b"17", None, "JSON object"),
        (b"{}", None, "root key"),
        (b'{"DevEUI": "0018B20000000B20"}', None, "root key"),
        (b'{"DevEUI_uplink": {}, "DevEUI_location": {}}', None, "2 root keys"),
        (b'{"DevEUI_uplink": {}}', UPLINK + "DevEUI", "missing"),
        (b'{"DevEUI_uplink": {"DevEUI": "0018B2000000B20"}}', UPLINK + "DevEUI", "16 hex digits"),
        (b'{"DevEUI_uplink": {"DevEUI": 18}}', UPLINK + "DevEUI", "text"),
        (edited(uplink(1), Time="2026-01-02T03:04:05.678"), UPLINK + "Time", "no offset"),
        (edited(uplink(1), Time="yesterday"), UPLINK + "Time", "ISO 8601"),
        (edited(uplink(1), FCntUp="-1"), UPLINK + "FCntUp", "frame counter"),
        (b"[]", None, "array is empty"),
        (b"[" * 100_000, None, "nests"),
        (b'{"DevEUI_uplink": {"DevEUI": "0018B20000000B20", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}}", None, "nests"),
    ],
)
async def test_what_is_no_uplink_is_refused_with_its_field(
    here: Inside, body: bytes, field: str | None, words: str
) -> None:
    answer = await here.post("lrc", body)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert (problem["status"], problem["title"], problem["type"]) == (400, "Bad Request", "about:blank")
    assert words in problem["detail"]
    assert problem.get("field") == field
    assert await kept(here) == 0
    assert await here.rejected("lrc", "malformed") == 1


@pytest.mark.parametrize("ndjson", [False, True])
async def test_of_a_batch_with_one_bad_document_nothing_is_kept(here: Inside, ndjson: bool) -> None:
    documents = [uplink(number) for number in range(20)]
    documents[13] = edited(documents[13], DevEUI=None)
    body = b"\n".join(documents) if ndjson else b"[" + b", ".join(documents) + b"]"
    answer = await here.post("lrc", body, headers=NDJSON if ndjson else {"content-type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["index"], problem["field"]) == (400, 13, "DevEUI_uplink.DevEUI")
    assert "nothing of the batch was kept" in problem["detail"]
    assert await kept(here) == 0


async def test_a_batch_of_broken_json_is_refused_with_the_place(here: Inside) -> None:
    answer = await here.post("lrc", b"[" + uplink(0) + b", " + uplink(1)[:-5] + b"]")
    assert (answer.status_code, answer.json()["index"]) == (400, 1)
    answer = await here.post("lrc", uplink(0) + b"\n" + uplink(1)[:-5], headers=NDJSON)
    assert (answer.status_code, answer.json()["index"]) == (400, 1)
    assert await kept(here) == 0


async def test_unknown_sources_wrong_methods_and_other_paths_are_told_apart(here: Inside) -> None:
    async with wire(here.url) as line:
        for method, path, status, words in (
            ("POST", "/uplink/nobody", 404, "no source 'nobody'"),
            ("POST", "/uplink/ns", 404, "transport http"),
            ("POST", "/uplink/", 404, "no source ''"),
            ("POST", "/uplink/lrc/", 404, "'lrc/'"),
            ("GET", "/uplink/lrc", 405, "POST"),
            ("PUT", "/uplink/lrc", 405, "POST"),
            ("GET", "/", 404, "POST /uplink/<source>"),
            ("GET", "/healthy", 404, "GET /health"),
            ("POST", "/health", 405, "GET"),
            ("DELETE", "/metrics", 405, "GET"),
        ):
            await line.send(request(method, path, b"" if method != "GET" else None))
            answer = await line.answer()
            assert answer.status == status, (method, path)
            assert words in answer.problem["detail"]
            if status == 405:
                assert answer.headers["allow"] in {"post", "get, head"}
    assert await here.rejected("lrc", "method") == 2


async def test_other_media_types_and_encodings_are_refused(here: Inside) -> None:
    for headers, words in (
        ({"content-type": "text/plain"}, "text/plain"),
        ({"content-type": "application/x-www-form-urlencoded"}, "application/json"),
        ({"content-type": "application/jsonx"}, "application/jsonx"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, "Content-Encoding"),
        ({"content-type": "application/x-ndjson", "content-encoding": "gzip"}, "Content-Encoding"),
    ):
        answer = await here.post("lrc", uplink(1), headers=headers)
        assert (answer.status_code, answer.json()["title"]) == (415, "Unsupported Media Type"), headers
        assert words in answer.json()["detail"]
    assert await kept(here) == 0
    assert await here.rejected("lrc", "media_type") == 5


async def test_a_body_over_the_limit_is_refused_before_and_while_it_comes(here: Inside) -> None:
    async with wire(here.url) as line:
        await line.send(request("POST", "/uplink/lrc", None, f"Content-Length: {sources_http.MAX_BODY + 1}"))
        answer = await line.answer()
        assert (answer.status, answer.problem["title"]) == (413, "Content Too Large")
    async with wire(here.url) as line:
        await line.send(request("POST", "/uplink/lrc", None, "Transfer-Encoding: chunked"))
        chunk = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
        await line.send(*[chunk] * 9, b"0\r\n\r\n")
        answer = await line.answer()
        assert (answer.status, str(sources_http.MAX_BODY) in answer.problem["detail"]) == (413, True)
        assert answer.headers["connection"] == "close"
        assert await line.ended()
    assert await here.rejected("lrc", "too_large") == 2


def ask(url: str, method: str, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Ask as Python's own client does: it sends everything before it looks for an answer, and hangs up."""
    client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        client.request(method, path, body, {"Connection": "close", **headers})
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        client.close()


async def test_every_client_sees_why_its_large_body_is_refused(here: Inside) -> None:
    large, medium = b" " * (20 * 1024 * 1024), b" " * 200_000
    for method, path, body, headers, status in (
        ("POST", "/uplink/lrc", large, {}, 413),
        ("POST", "/uplink/lcr", medium, {}, 404),
        ("PUT", "/uplink/lrc", medium, {}, 405),
        ("POST", "/metrics", medium, {}, 405),
        ("POST", "/nowhere", medium, {}, 404),
        ("POST", "/uplink/lrc", medium, {"Content-Type": "text/plain"}, 415),
        ("POST", "/uplink/signed", medium, {}, 401),
    ):
        for _ in range(3):
            answer = await asyncio.to_thread(ask, here.url, method, path, body, **headers)
            assert (answer[0], answer[1]["status"]) == (status, status), (method, path)


async def test_a_small_body_that_comes_behind_its_head_is_refused_without_a_reset(here: Inside) -> None:
    async with wire(here.url) as line:
        await line.send(request("POST", "/uplink/lcr", None, "Content-Length: 3"))
        await asyncio.sleep(0.05)
        await line.send(b"abc")
        answer = await line.answer()
        assert (answer.status, answer.headers.get("connection")) == (404, None)
        await line.send(request("POST", "/uplink/lrc", uplink(1)))
        assert (await line.answer()).status == 200, "the connection goes on"


async def test_a_body_that_nobody_wants_is_read_within_bounds(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "LINGER", 0.1)
    for length in (10_000_000, 10):
        async with wire(here.url) as line:
            await line.send(request("POST", "/uplink/lcr", None, f"Content-Length: {length}"), b"x")
            assert (await line.answer()).status == 404
            assert await line.ended(), "not in time"
    monkeypatch.setattr(asgi, "LINGER", 60.0)
    monkeypatch.setattr(asgi, "LINGER_BYTES", 2**20)
    async with wire(here.url) as line:
        await line.send(request("POST", "/uplink/lcr", None, "Content-Length: 1000000000"))
        assert (await line.answer()).status == 404
        with pytest.raises(OSError):
            await line.send(*[b" " * 2**20] * 100)


# -- what the operator sees ------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Give what the log is told of refusals."""
    told = Told()
    monkeypatch.setattr(intake, "log", told)
    monkeypatch.setattr(throttle, "log", told)
    return told


def rejections(told: Told) -> list[dict[str, Any]]:
    return [fields for level, event, fields in told.lines if event == "uplink.rejected" and level == "warning"]


async def test_an_uplink_to_a_wrong_url_is_told_with_what_was_meant_and_counted(here: Inside, told: Told) -> None:
    paths = ["/uplink/LRC", "/uplink/lrc/", "//uplink/lrc", "/uplink/lcr", "/Uplink/lrc", "/v1/lrc"]
    for path in paths:
        async with wire(here.url) as line:
            await line.send(request("POST", path + "?LrnDevEui=0018B20000000B20", uplink(1)))
            answer = await line.answer()
        assert (answer.status, "did you mean /uplink/lrc?" in answer.problem["detail"]) == (404, True), path
    for path in ("/uplink", "/uplink/", "/", "/uplink/" + "x" * 5000):
        async with wire(here.url) as line:
            await line.send(request("POST", path, uplink(1)))
            answer = await line.answer()
        assert (answer.status, "did you mean" in answer.problem["detail"]) == (404, False), path
        assert len(answer.body) < 500
    lines = rejections(told)
    assert {line["kind"] for line in lines} == {"unknown_source"}
    assert lines[0]["path"] == "'/uplink/LRC'"
    assert (lines[0]["client"], lines[0]["dev_eui"], "source" in lines[0]) == ("127.0.0.1", "0018B20000000B20", False)
    assert "did you mean /uplink/lrc?" in lines[0]["reason"]
    assert await here.rejected("", "unknown_source") == 10
    await here.get("/uplink/lcr")
    assert await here.rejected("", "unknown_source") == 10, "a GET brings no uplink"


async def test_a_refusal_names_the_client_the_device_and_the_place_in_the_batch(here: Inside, told: Told) -> None:
    other = edited(uplink(2, "0018B20000000C31"), FCntUp=-1, DevEUI="00-18-b2-00-00-00-0c-31")
    await here.post("lrc", b"[" + uplink(1) + b"," + other + b"]")
    await here.post("signed", VECTOR, f"?{QUERY}{quote(TIME)}&Token=0")
    await here.post("signed", VECTOR, "?LrnDevEui=0018b20000000b20")
    await here.post("lrc", b"nonsense")
    batch, wrong, unsigned, nonsense = rejections(told)
    assert (batch["source"], batch["client"], batch["dev_eui"], batch["index"]) == (
        "lrc", "127.0.0.1", "0018B20000000C31", 1,
    )  # fmt: skip
    assert (wrong["kind"], wrong["dev_eui"]) == ("unauthorised", "0018B20000000B20")
    assert (unsigned["kind"], unsigned["dev_eui"]) == ("unauthorised", "0018B20000000B20")
    assert nonsense["client"] == "127.0.0.1"
    assert not {"dev_eui", "index", "path"} & nonsense.keys()


async def test_a_refusal_without_a_query_names_the_device_of_a_small_body(here: Inside, told: Told) -> None:
    for body in (VECTOR, VECTOR.ljust(100_000), b"nonsense", b""):
        answer = await here.post("signed", body)
        assert (answer.status_code, "no query string" in answer.json()["detail"]) == (401, True)
    small, *others = rejections(told)
    assert (small["kind"], small["dev_eui"]) == ("unauthorised", "0018B20000000B20")
    assert not any("dev_eui" in line for line in others), "what is large is not read for that"


async def test_the_media_type_that_was_meant_is_named(here: Inside) -> None:
    answer = await here.post("lrc", uplink(1) + b"\n" + uplink(2))
    assert (answer.status_code, "application/x-ndjson" in answer.json()["detail"]) == (400, True)
    for body in (b"[" + uplink(1) + b"]", json.dumps(json.loads(uplink(1)), indent=1).encode()):
        answer = await here.post("lrc", body, headers=NDJSON)
        assert (answer.status_code, "as application/json" in answer.json()["detail"]) == (400, True)
    for headers, body in ((NDJSON, b"nonsense"), ({"content-type": "application/json"}, b"nonsense")):
        assert "application/" not in (await here.post("lrc", body, headers=headers)).json()["detail"]


# -- Tokens ----------------------------------------------------------------------------------------------------------

VECTOR = json.dumps(
    {
        "DevEUI_uplink": {
            "CustomerID": "100000001",
            "DevEUI": "0018B20000000B20",
            "FPort": 1,
            "FCntUp": 1174,
            "payload_hex": "9e1c4852512000220020e3831071",
        }
    }
).encode()
QUERY = "LrnDevEui=0018B20000000B20&LrnFPort=1&LrnInfos=TWA_1.2.AS-1-7&AS_ID=TWA_1.2.AS&Time="
TIME = "2026-01-02T03:04:05.678+01:00"
TOKEN = "f7e3eee76beb066a05ce55fcb153efbff47c375b9ca6409db713d9ef5c205d1f"


async def test_signed_requests_are_accepted_however_the_query_is_encoded(here: Inside) -> None:
    async with wire(here.url) as line:
        for time in (TIME, quote(TIME, safe="+"), quote(TIME, safe=""), TIME.replace(":", "%3a")):
            await line.send(request("POST", f"/uplink/signed?{QUERY}{time}&Token={TOKEN}", VECTOR))
            answer = await line.answer()
            assert (answer.status, answer.body) == (200, b'{"accepted": 1}'), time
    assert await kept(here) == 1, "it is one uplink, and stored once"


async def test_the_published_vector_is_accepted(here: Inside) -> None:
    payload = "032ce4850919d85d4c9f793ad148d24f32f3c6b5488f5a087cbeb1488f5a998c83ab"
    document = edited(
        VECTOR, CustomerID="100002167", DevEUI="20635F0108000496", FPort=17, FCntUp="18", payload_hex=payload
    )
    query = (
        "LrnDevEui=20635F0108000496&LrnFPort=17&LrnInfos=TWA_100002167.1111.AS-1-111974&AS_ID=TWA_100002167.1111.AS"
        "&Time=2021-04-07T08%3A49%3A51.551%2B00%3A00"
        "&Token=196c22898bf95fcf48b72be198c89256410660b9b514539651344baa594ad74f"
    )
    async with wire(here.url) as line:
        await line.send(request("POST", f"/uplink/published?{query}", document))
        assert (await line.answer()).status == 200


async def test_a_missing_or_wrong_token_is_refused_and_gives_nothing_away(here: Inside) -> None:
    other_key = hashlib.sha256(b"other").hexdigest()
    async with wire(here.url) as line:
        for query, body, words in (
            ("", VECTOR, "no query string"),
            (f"?{QUERY}{TIME}", VECTOR, "Token missing"),
            (f"?{QUERY}{TIME}&Token=", VECTOR, "does not match"),
            (f"?{QUERY}{TIME}&Token={other_key}", VECTOR, "does not match"),
            (f"?{QUERY}{TIME}&Token={TOKEN}", edited(VECTOR, FCntUp=1175), "does not match"),
            (f"?{QUERY}{TIME.replace('05', '06')}&Token={TOKEN}", VECTOR, "does not match"),
            (f"?{QUERY}{TIME}&Token={TOKEN}&Token={TOKEN}", VECTOR, "twice"),
            (f"?{QUERY}{TIME}&Token={TOKEN}", b"[" + VECTOR + b"," + VECTOR + b"]", "one document"),
            (f"?{QUERY}{TIME}", b"nonsense", "Token missing"),
        ):
            await line.send(request("POST", f"/uplink/signed{query}", body))
            answer = await line.answer()
            assert (answer.status, answer.problem["title"]) == (401, "Unauthorized"), (query, answer.body)
            assert answer.headers["www-authenticate"]
            assert words in answer.problem["detail"]
            assert AS_KEY.encode() not in answer.body
            assert TOKEN.encode() not in answer.body
    assert await kept(here) == 0
    assert await here.rejected("signed", "unauthorised") == 9


async def test_with_a_token_a_body_that_is_no_document_is_400_and_says_what_is_wrong(here: Inside) -> None:
    for body, words in (
        (b"nonsense", "not JSON"),
        (b"{}", "root key"),
        (b'{"DevEUI_uplink": {}}', "DevEUI is missing"),
        (VECTOR + b"\n" + VECTOR, "application/x-ndjson"),
    ):
        answer = await here.post("signed", body, f"?{QUERY}{quote(TIME)}&Token={TOKEN}")
        assert (answer.status_code, words in answer.json()["detail"]) == (400, True), answer.text


async def test_without_a_token_the_answer_does_not_wait_for_the_body(here: Inside) -> None:
    async with wire(here.url) as line:
        await line.send(request("POST", f"/uplink/signed?{QUERY}{TIME}", None, "Content-Length: 1000000"), b"{")
        assert (await line.answer()).status == 401


# -- a journal that takes nothing ------------------------------------------------------------------------------------


async def test_a_full_journal_answers_503_with_retry_after_and_accepts_nothing(tmp_path: Path) -> None:
    async with inside(tmp_path, journal={"maxSize": "1MiB"}, connections={"acme": to(NOBODY)}) as here:
        accepted = 0

        def batch() -> bytes:
            return b"\n".join(uplink(accepted + number) for number in range(50))

        while (answer := await here.post("lrc", batch(), headers=NDJSON)).status_code == 200:
            accepted += 50
        assert accepted > 0
        problem = answer.json()
        assert (answer.status_code, problem["title"]) == (503, "Service Unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "journal.maxSize" in problem["detail"]
        assert await kept(here) == accepted
        metrics = await here.metrics()
        assert metrics["mqttbridge_source_uplinks_accepted_total", "lrc"] == accepted
        assert metrics["mqttbridge_source_uplinks_rejected_total", "journal_full", "lrc"] == 1
        health = await here.get("/health")
        assert (health.status_code, "full" in health.json()["detail"]) == (503, True)


async def test_a_failing_disk_answers_503_and_accepts_nothing(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(_: object) -> None:
        raise JournalFailed("the disk is gone")

    monkeypatch.setattr(here.journal, "append", failing)
    answer = await here.post("lrc", uplink(1))
    assert (answer.status_code, answer.json()["detail"]) == (503, "the disk is gone")
    assert "retry-after" in answer.headers
    assert await here.rejected("lrc", "journal_failed") == 1
    monkeypatch.undo()
    assert (await here.post("lrc", uplink(1))).status_code == 200
    assert await kept(here) == 1


# -- bodies that come in odd ways ------------------------------------------------------------------------------------


async def test_a_chunked_body_is_put_together(here: Inside) -> None:
    body = edited(uplink(1), note="déjà vu").decode().encode()
    async with wire(here.url) as line:
        await line.send(request("POST", "/uplink/lrc", None, "Transfer-Encoding: chunked"))
        await line.send(*(b"%x\r\n%b\r\n" % (len(part), part) for part in _pieces(body, 7)), b"0\r\n\r\n")
        assert (await line.answer()).status == 200
    (queued,) = await here.journal.read("acme", 0, 10)
    assert queued.uplink.body == body


def _pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


async def test_one_connection_serves_many_requests_also_those_sent_ahead(here: Inside) -> None:
    async with wire(here.url) as line:
        await line.send(*(request("POST", "/uplink/lrc", uplink(number)) for number in range(5)))
        for _ in range(5):
            assert (await line.answer()).status == 200
        await line.send(request("POST", "/uplink/lrc", b"bad"))
        assert (await line.answer()).status == 400
        await line.send(request("POST", "/uplink/lrc", uplink(5)))
        assert (await line.answer()).status == 200
    assert [one.uplink.fcnt for one in await here.journal.read("acme", 0, 10)] == list(range(6))


async def test_a_client_that_asks_first_is_told_to_go_on(here: Inside) -> None:
    body = uplink(1)
    async with wire(here.url) as line:
        await line.send(request("POST", "/uplink/lrc", None, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert await line.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await line.send(body)
        assert (await line.answer()).status == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_cut_short_keeps_nothing_and_disturbs_nobody(here: Inside, chunked: bool) -> None:
    document = uplink(1)
    async with wire(here.url) as line:
        if chunked:
            whole = b"%x\r\n%b\r\n" % (len(document), document)
            await line.send(request("POST", "/uplink/lrc", None, "Transfer-Encoding: chunked"), whole)
        else:
            # The document is whole, what was announced is not.
            await line.send(request("POST", "/uplink/lrc", None, f"Content-Length: {len(document) + 1}"), document)
        assert (await here.post("lrc", uplink(2))).status_code == 200

    async def told() -> bool:
        return await here.rejected("lrc", "cut_short") == 1

    await until(told, "cut_short")
    assert [one.uplink.fcnt for one in await here.journal.read("acme", 0, 10)] == [2]


async def test_a_body_that_does_not_come_is_given_up(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_http, "READ_WITHIN", 0.05)
    async with wire(here.url) as line:
        await line.send(request("POST", "/uplink/lrc", None, "Content-Length: 100"), b"{")
        answer = await line.answer()
        assert (answer.status, answer.problem["title"]) == (408, "Request Timeout")
        assert await line.ended(), "a client that dribbles does not keep its connection"
    assert await here.rejected("lrc", "cut_short") == 1


async def test_a_bug_in_one_request_is_answered_and_ends_nothing_else(
    here: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, object]] = []

    class Log:
        def exception(self, event: str, **fields: object) -> None:
            told.append((event, fields["path"]))

    def buggy(*_: object, **__: object) -> Any:  # noqa: ANN401 (it never returns)
        raise ZeroDivisionError

    monkeypatch.setattr(sources_http, "split", buggy)
    monkeypatch.setattr("mqttbridge.control.guard.log", Log())
    answer = await here.post("lrc", uplink(1))
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "ZeroDivisionError" not in answer.text
    assert told == [("http.crashed", "/uplink/lrc")]
    monkeypatch.undo()
    assert (await here.post("lrc", uplink(1))).status_code == 200


async def test_a_client_that_asks_for_http2_is_told_what_to_do(here: Inside, caplog: pytest.LogCaptureFixture) -> None:
    # As Java's HttpClient does with its first request.
    h2c = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
    async with wire(here.url) as line:
        await line.send(request("POST", "/uplink/lrc", uplink(1), *h2c))
        answer = await line.answer()
        assert (answer.status, "plain HTTP/1.1" in answer.problem["detail"]) == (400, True)
    assert caplog.records == []


async def test_what_is_not_http_is_hung_up_on_and_does_not_flood_the_log(
    here: Inside, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"MQTT\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        async with wire(here.url) as line:
            await line.send(garbage)
            await line.reader.read(4096)
            assert await line.ended()
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: eDR0", "Sec-WebSocket-Version: 13")
    async with wire(here.url) as line:
        await line.send(request("GET", "/socket", None, *upgrade))
        assert (await line.answer()).status == 404
    assert (await here.post("lrc", uplink(1))).status_code == 200
    assert caplog.records == []


async def test_the_only_element_of_an_array_has_an_index_too(here: Inside) -> None:
    answer = await here.post("lrc", b'[{"DevEUI_uplink": {"DevEUI": "1"}}]')
    assert (answer.status_code, answer.json()["index"]) == (400, 0)


async def test_bodies_in_memory_are_bounded_over_all_requests(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_http, "MAX_HELD", 3000)

    large = edited(uplink(1), note="x" * sources_http.SMALL)

    async def answered(status: int) -> bool:
        return (await here.post("lrc", large)).status_code == status

    async with wire(here.url) as slow:
        await slow.send(request("POST", "/uplink/lrc", None, "Content-Length: 2500"), b" " * 2400)
        await until(lambda: answered(503), "the slow body is held")
        refused = await here.post("lrc", large)
        assert refused.headers["retry-after"] == "5"
        assert "too many large requests" in refused.json()["detail"]
        assert (await here.post("lrc", uplink(2))).status_code == 200, "a small one has its place"
    monkeypatch.setattr(sources_http, "MAX_HELD", 200_000)
    await until(lambda: answered(200), "the slow body is let go")


async def test_what_no_journal_of_this_size_can_hold_is_too_large_and_not_to_be_sent_again(tmp_path: Path) -> None:
    sections = {"journal": {"maxSize": "64KiB"}, "connections": {"acme": to(NOBODY)}}
    async with inside(tmp_path, **sections) as here:
        answer = await here.post("lrc", edited(uplink(1), note="x" * 60_000))
        assert answer.status_code == 413
        assert "retry-after" not in answer.headers
        assert (await here.post("lrc", uplink(2))).status_code == 200


# -- where an uplink came from, and sources that change --------------------------------------------------------------


class Kept:
    """Of an intake what the HTTP source uses; keeps what it is given."""

    largest = 1024 * 1024

    def __init__(self) -> None:
        self.uplinks: list[Uplink] = []
        self.refused: list[tuple[str, str]] = []

    def now(self) -> int:
        return 1_700_000_000_000

    async def accept(self, source: str, uplinks: list[Uplink], *, window: int) -> None:
        assert {one.source for one in uplinks} == {source}
        assert window == 600_000
        self.uplinks += uplinks

    def rejected(self, source: str, kind: str, *_: object, near: str = "", **facts: object) -> None:
        assert facts["client"]
        self.refused.append((source or near, kind))


async def direct(
    app: sources_http.HttpIntake, path: str, body: bytes, *headers: tuple[bytes, bytes], query: bytes = b""
) -> int:
    """Give the status of the answer to a POST from 10.0.0.7."""
    scope = {
        "path": path,
        "method": "POST",
        "query_string": query,
        "headers": [(b"content-type", b"application/json"), *headers],
        "client": ("10.0.0.7", 1234),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("asks", "origin"),
    [
        ({}, "POST from 10.0.0.7, not authenticated"),
        ({"authorization": Secret("Bearer x")}, "POST from 10.0.0.7, Authorization verified"),
        ({"as_key": Secret(AS_KEY)}, "POST from 10.0.0.7, Token verified"),
        (
            {"as_key": Secret(AS_KEY), "authorization": Secret("Bearer x")},
            "POST from 10.0.0.7, Token and Authorization verified",
        ),
    ],
)
async def test_an_uplink_knows_where_it_came_from_and_how_it_was_checked(
    monkeypatch: pytest.MonkeyPatch, asks: dict[str, Any], origin: str
) -> None:
    monkeypatch.setattr(sources_http, "verify", lambda *_: None)
    kept = Kept()
    app = sources_http.HttpIntake({"lrc": HttpSource(**asks)}, kept)
    query = b"Token=00&LrnDevEui=0018B20000000B20&Time=x"
    assert await direct(app, "/uplink/lrc", uplink(1), (b"authorization", b"Bearer x"), query=query) == 200
    assert [one.origin for one in kept.uplinks] == [origin]


async def test_sources_are_looked_up_at_each_request_and_only_those_of_http_are_served() -> None:
    kept = Kept()
    sources: dict[str, Any] = {"ns": MqttSource(host_name="localhost", topics=("a",))}
    app = sources_http.HttpIntake(sources, kept)
    assert await direct(app, "/uplink/lrc", uplink(1)) == 404
    assert await direct(app, "/uplink/ns", uplink(1)) == 404
    sources["lrc"] = HttpSource()
    assert await direct(app, "/uplink/lrc", uplink(2)) == 200
    assert await direct(app, "/uplink/LRC", uplink(3)) == 404
    sources["lrc"] = HttpSource(authorization=Secret("Bearer x"))
    assert await direct(app, "/uplink/lrc", uplink(4)) == 401
    del sources["lrc"]
    assert await direct(app, "/uplink/lrc", uplink(5)) == 404
    assert [one.fcnt for one in kept.uplinks] == [2]
    unknown = [name for name, kind in kept.refused if kind == "unknown_source"]
    assert unknown == ["", "", "lrc", ""], "ns is no source that could have been meant"
