"""The page in a real browser, against an API in memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.page.browser import AUDIT, CHROMIUM, button, look_again, served, sign_in, tab
from tests.page.fake import ADMIN, HIDDEN, READER, FakeDaemon, furnished

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def fake() -> FakeDaemon:
    return furnished()


@pytest.fixture
def url(fake: FakeDaemon) -> Iterator[str]:
    with served(fake) as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with tab(browser, url) as opened:
        yield opened


@pytest.fixture
def admin(page: Page) -> Page:
    page.add_init_script(f"sessionStorage.setItem('mqttbridge-token', '{ADMIN}')")
    page.goto("/")
    return page


def test_a_wrong_token_is_told_and_a_good_one_lasts_over_a_reload_until_sign_out(page: Page) -> None:
    page.goto("/#/events")
    page.get_by_label("Token").fill("not-the-token")
    button(page, "Sign in").click()
    expect(page.get_by_text("The daemon does not know this token.")).to_be_visible()
    expect(page.get_by_label("Token")).to_be_focused()
    page.get_by_label("Token").fill(ADMIN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Events")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Events")).to_be_visible()
    button(page, "Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_connection_is_tested_made_seen_used_changed_and_deleted(admin: Page, fake: FakeDaemon) -> None:
    page = admin
    page.get_by_role("link", name="New connection").click()
    expect(page.get_by_role("heading", name="New connection", level=1)).to_be_focused()
    page.get_by_label("Name *", exact=True).fill("Water works")
    page.get_by_label("Host *").fill("broker.water.example")
    page.get_by_label("User name").fill("water")
    page.get_by_label("Password").fill("geheim")
    page.get_by_label("CA certificate").set_input_files({"name": "ca.pem", "mimeType": "", "buffer": CERTIFICATE})
    page.get_by_label("Client certificate").set_input_files({"name": "c.pem", "mimeType": "", "buffer": CERTIFICATE})
    page.get_by_label("Private key").set_input_files({"name": "k.pem", "mimeType": "", "buffer": KEY})
    expect(page.get_by_text("k.pem: a private key.")).to_be_visible()
    button(page, "Test").click()
    expect(page.get_by_text("The test went well")).to_be_visible()
    expect(page.get_by_text("Have it renewed.")).to_be_visible()
    expect(page.get_by_text("The broker lets us in.")).to_have_text(
        "The broker lets us in.\nIt shows:\n  mycompany: issued by Test CA"
    )
    button(page, "Create").click()
    expect(page.locator("#notices")).to_contain_text("The connection Water works was created.")
    expect(page.get_by_role("heading", name="Water works", level=1)).to_be_focused()
    expect(page.locator(".head .state")).to_have_text("OPENED")
    sent = fake.asked[-1][2]["configuration"]
    assert sent["certificate"] == CERTIFICATE.decode()
    assert sent["privateKey"] == KEY.decode()

    fake.uplink("water-works", "0018B20000000ABC")
    look_again(page)
    expect(page.get_by_text("mqtt/things/0018B20000000ABC/uplink")).to_be_visible()

    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Downlink topic").fill("down/{DevEUI}")
    expect(page.get_by_text("One is set. Leave this empty to keep it.").first).to_be_visible()
    button(page, "Save").click()
    expect(page.locator("#notices")).to_contain_text("Water works is saved and in force.")
    sent = fake.asked[-1][2]["configuration"]
    assert (sent["password"], sent["privateKey"], sent["downlinkTopicPattern"]) == (HIDDEN, HIDDEN, "down/{DevEUI}")
    assert fake.connections["water-works"]["configuration"]["password"] == "geheim"

    button(page, "Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button(page, "Delete")).to_be_focused()
    assert "water-works" in fake.connections
    button(page, "Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Connections")).to_be_visible()
    expect(page.locator("#notices")).to_contain_text("was deleted")
    assert "water-works" not in fake.connections


def test_an_error_stands_at_its_field_is_described_and_has_the_focus(admin: Page) -> None:
    page = admin
    page.goto("/#/connections/new")
    button(page, "Create").click()
    name, host = page.get_by_label("Name *", exact=True), page.get_by_label("Host *")
    expect(name).to_be_focused()
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(name).to_have_accessible_description(re.compile("Name is missing."))
    name.fill("X")
    host.fill("mqtt://x")
    button(page, "Create").click()
    expect(host).to_have_accessible_description(re.compile("Leave out mqtt://: the protocol has a field of its own"))
    host.fill("a b")
    button(page, "Create").click()
    expect(host).to_have_accessible_description(re.compile("it has a space"))
    expect(host).to_be_focused()
    expect(page.get_by_role("alert")).to_have_text("Some fields need another look.")
    expect(name).not_to_have_attribute("aria-invalid", "true")


def test_fields_follow_the_protocol_and_what_is_hidden_is_not_sent(admin: Page, fake: FakeDaemon) -> None:
    page = admin
    page.goto("/#/connections/new")
    path, certificate = page.get_by_label("WebSocket path"), page.get_by_label("Client certificate")
    expect(path).to_be_hidden()
    page.get_by_label("Protocol").select_option("WSS")
    path.fill("/ws")
    certificate.set_input_files({"name": "c.pem", "mimeType": "", "buffer": KEY})
    expect(page.get_by_text("c.pem: this is a private key; choose the certificate.")).to_be_visible()
    page.get_by_label("Protocol").select_option("TCP")
    expect(path).to_be_hidden()
    expect(certificate).to_be_hidden()
    page.get_by_label("Name *", exact=True).fill("Plain")
    page.get_by_label("Host *").fill("unreachable.example")
    button(page, "Test").click()
    expect(page.get_by_text("Check the port and the firewall.")).to_be_visible()
    assert fake.asked[-1][2]["configuration"] == {
        "hostName": "unreachable.example", "protocol": "TCP", "uplinkTopicPattern": "mqtt/things/{DevEUI}/uplink",
    }  # fmt: skip


def test_who_was_slower_is_told_and_may_load_what_is_there(admin: Page, fake: FakeDaemon) -> None:
    page = admin
    page.goto("/#/connections/acme/edit")
    page.get_by_label("Description").fill("mine")
    fake.connections["acme"]["configuration"]["description"] = "theirs"
    fake.connections["acme"]["etag"] = fake.etag()
    button(page, "Save").click()
    expect(page.get_by_text("Somebody else changed this since you opened it.")).to_be_visible()
    # What the daemon says of it: an edit by hand that is not in force needs a reload, and cannot be loaded here.
    expect(page.get_by_text("it was changed meanwhile", exact=False)).to_be_visible()
    button(page, "Load what is there now").click()
    expect(page.get_by_label("Description")).to_have_value("theirs")
    assert fake.connections["acme"]["configuration"]["description"] == "theirs"


def test_the_list_is_live_filtered_and_touches_only_what_changed(admin: Page, fake: FakeDaemon) -> None:
    page = admin
    row = page.get_by_role("row", name=re.compile("ACME broker"))
    row.evaluate("row => { row.marked = true }")
    fake.connections["acme"] |= {"state": "UNREACHABLE", "why": "No route to host.", "queued": 1234}
    fake.add("late", {"name": "Came later", "configuration": {"hostName": "late.example"}})
    expect(row).to_contain_text("UNREACHABLE")
    expect(row).to_contain_text("1,234")
    expect(page.get_by_role("link", name="Came later")).to_be_visible()
    assert row.evaluate("row => row.marked")
    expect(page.locator("#live")).to_contain_text("ACME broker: unreachable")
    expect(page.get_by_role("link", name="Plant <b>7</b>")).to_be_visible()
    page.get_by_label("Filter").fill("authentication failed")
    expect(page.get_by_role("link", name="ACME broker")).to_be_hidden()
    page.reload()
    expect(page.get_by_label("Filter")).to_have_value("authentication failed")
    expect(page.get_by_role("link", name="ACME broker")).to_be_hidden()


def test_the_details_stop_and_start_and_show_counters_without_eyes(admin: Page, fake: FakeDaemon) -> None:
    page = admin
    page.get_by_role("link", name="ACME broker").click()
    expect(page.get_by_role("img", name=re.compile("The last hour, by the minute: .* delivered"))).to_be_visible()
    page.get_by_text("As a table").last.click()
    expect(page.get_by_role("table", name="The last day, by the hour: numbers").get_by_role("row")).to_have_count(25)
    expect(page.get_by_text("37 active devices in the last 24 hours")).to_be_visible()
    expect(page.get_by_text("The field CustomerID is not in the document.")).to_be_visible()
    expect(page.get_by_text("geheim")).to_have_count(0)
    expect(page.get_by_text("In the file connections.d/acme.yaml")).to_be_visible()
    page.get_by_role("button", name=re.compile("Show the document of 0018B20000000BAD")).click()
    expect(page.get_by_role("dialog")).to_contain_text('"payload_hex": "0102"')
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    button(page, "Stop").click()
    expect(page.locator(".head .state")).to_have_text("DEACTIVATED")
    expect(button(page, "Start")).to_be_focused()
    stopped = page.get_by_text("It is stopped (active is false), and gets no uplinks.")
    expect(stopped).to_be_visible()
    expect(stopped).not_to_have_class(re.compile("bad"))  # somebody wanted it so
    button(page, "Start").click()
    expect(page.locator(".head .state")).to_have_text("OPENED")
    waiting = fake.uplink("acme", "0018B20000000111", "queued")
    look_again(page)
    line = page.get_by_role("row", name=re.compile("0018B20000000111"))
    expect(line).to_contain_text("queued")
    next(one for one in fake.uplinks["acme"] if one["id"] == waiting)["outcome"] = "delivered"
    look_again(page)
    expect(line).to_contain_text("delivered")


def test_a_downlink_is_sent_and_its_answer_is_shown(admin: Page, fake: FakeDaemon) -> None:
    page = admin
    page.goto("/#/connections/acme")
    section = page.get_by_role("region", name="Send a downlink")
    section.get_by_label("DevEUI").fill("00-18-b2-00-00-00-0b-20")
    section.get_by_label("FPort").fill("300")
    section.get_by_label("Payload").fill("ff" * 60)
    button(page, "Send").click()
    expect(section.get_by_label("FPort")).to_be_focused()
    section.get_by_label("FPort").fill("2")
    section.get_by_label("Confirmed").check()
    button(page, "Send").click()
    expect(section.get_by_label("Payload")).to_have_accessible_description(re.compile("51 bytes are the most"))
    section.get_by_label("Payload").fill("0103")
    button(page, "Send").click()
    expect(section.get_by_role("status")).to_contain_text("correlation id is 0123456789abcdef")
    button(page, "Restart").click()
    expect(page.locator("#notices")).to_contain_text("ACME broker was restarted.")
    expect(section.get_by_label("Payload")).to_have_value("0103")
    document = {"DevEUI": "0018B20000000B20", "FPort": 2, "payload_hex": "0103", "Confirmed": 1}
    assert fake.asked[-2] == ("POST", "/downlinkMessages/acme", {"DevEUI_downlink": document})


def test_what_the_main_file_owns_and_a_reading_token_are_shown_read_only(browser: Browser, url: str) -> None:
    with tab(browser, url) as page:
        sign_in(page, ADMIN, "/#/connections/fixed")
        expect(page.get_by_text("stands in the main file, mqttbridge.yaml")).to_be_visible()
        for name in ("Stop", "Delete"):
            expect(button(page, name)).to_be_hidden()
        expect(page.get_by_role("link", name="Edit")).to_have_count(0)
        page.goto("/#/flows/all")
        expect(page.get_by_text("This flow stands in the main file")).to_be_visible()
        expect(button(page, "Save")).to_have_count(0)
    with tab(browser, url) as page:
        sign_in(page, READER)
        expect(page.get_by_text("read-only")).to_be_visible()
        expect(page.get_by_role("link", name="New connection")).to_have_count(0)
        page.get_by_role("link", name="ACME broker").click()
        expect(page.locator(".head .state")).to_have_text("OPENED")
        for name in ("Stop", "Restart", "Delete", "Send"):
            expect(button(page, name)).to_be_hidden()
        page.goto("/#/connections/new")
        expect(page.get_by_text("This token may only read.")).to_be_visible()


def test_a_flow_is_made_changed_and_deleted(admin: Page, fake: FakeDaemon) -> None:
    page = admin
    page.get_by_role("link", name="Flows").click()
    expect(page.get_by_text("TemperatureService and MyBestCustomer")).to_be_visible()
    page.get_by_role("link", name="New flow").click()
    page.get_by_label("Name").fill("One device")
    button(page, "Create").click()
    expect(page.get_by_text("Choose at least one connection.")).to_be_visible()
    page.get_by_label("ACME broker").check()
    button(page, "Add a matcher").click()
    page.get_by_label("DevEUI").fill("0018-B200-0000-0B20")
    button(page, "Add a matcher").click()
    page.get_by_label("By").last.select_option("thing")
    page.get_by_label(re.compile("Tags")).fill("Hot, Cold")
    button(page, "Create").click()
    expect(page.get_by_role("link", name="One device")).to_be_visible()
    matchers = [{"type": "key", "key": "lora:0018B20000000B20"}, {"type": "thing", "tags": ["Hot", "Cold"]}]
    assert fake.flows["one-device"]["matchers"] == matchers
    page.get_by_role("link", name="One device").click()
    button(page, "Remove this matcher").first.click()
    button(page, "Save").click()
    expect(page.get_by_role("heading", name="Flows")).to_be_visible()
    assert fake.flows["one-device"]["matchers"] == matchers[1:]
    page.get_by_role("link", name="One device").click()
    button(page, "Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Flows")).to_be_visible()
    expect(page.get_by_role("link", name="One device")).to_be_hidden()
    assert "one-device" not in fake.flows


def test_events_are_filtered_and_followed_and_the_address_keeps_the_filter(admin: Page, fake: FakeDaemon) -> None:
    page = admin
    page.goto("/#/events")
    rows = page.get_by_role("row")
    expect(rows).to_have_count(4)
    page.get_by_label("Level").select_option("warning")
    expect(rows).to_have_count(3)
    page.get_by_label("Connection").select_option("north")
    expect(rows).to_have_count(2)
    fake.event("error", "connection.closed", connection="north", reason="<img src=x onerror=alert(1)>")
    look_again(page)
    expect(page.get_by_text("<img src=x onerror=alert(1)>")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Connection")).to_have_value("north")
    expect(rows).to_have_count(3)
    page.go_back()
    expect(page.get_by_role("heading", name="Connections")).to_be_visible()
    page.go_forward()
    expect(page.get_by_role("heading", name="Events")).to_be_focused()


def test_a_daemon_that_does_not_answer_is_told_and_found_again(admin: Page, fake: FakeDaemon) -> None:
    page = admin
    page.get_by_role("link", name="ACME broker").wait_for()
    fake.down = True
    look_again(page)
    expect(page.locator("#health")).to_contain_text("The daemon does not answer.")
    fake.down = False
    look_again(page)
    expect(page.locator("#health")).to_be_empty()
    expect(page.get_by_role("link", name="ACME broker")).to_be_visible()


def test_nothing_is_asked_while_nobody_looks(browser: Browser, url: str) -> None:
    with tab(browser, url) as page:
        page.clock.install()
        sign_in(page, ADMIN)
        page.get_by_role("link", name="ACME broker").wait_for()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s});"
        page.evaluate(hide % "true" + "document.dispatchEvent(new Event('visibilitychange'))")
        page.clock.run_for(20_000)
        assert asked == []
        with page.expect_response("**/status"):
            page.evaluate(hide % "false" + "document.dispatchEvent(new Event('visibilitychange'))")


VIEWS = ("connections", "connections/acme", "connections/plant", "connections/new", "connections/acme/edit",
         "flows", "flows/temperature", "events", "nowhere")  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_view_has_labels_contrast_and_room(browser: Browser, url: str, theme: str, width: int) -> None:
    size = {"width": width, "height": 800}
    with tab(browser, url, color_scheme=theme, viewport=size, reduced_motion="reduce") as page:
        page.goto("/")
        page.get_by_label("Token").wait_for()
        assert page.evaluate(AUDIT) == []
        sign_in(page, ADMIN)
        for view in VIEWS:
            page.goto(f"/#/{view}")
            page.wait_for_function(
                "view => document.title !== '' && document.querySelector('main h1') && location.hash === '#/' + view",
                arg=view,
            )
            page.get_by_role("heading", level=1).and_(page.locator("[tabindex='-1']")).wait_for()
            if view.endswith(("new", "edit")):
                page.get_by_text("Advanced").click()
            assert (view, page.evaluate(AUDIT)) == (view, [])


def test_the_keyboard_alone_reaches_and_shows_where_it_is(admin: Page) -> None:
    page = admin
    page.reload()
    page.get_by_role("link", name="ACME broker").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New connection")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="ACME broker")).to_be_focused()


def test_the_theme_can_be_chosen_and_stays(admin: Page) -> None:
    page = admin
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_label("Theme").select_option("dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != before
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
