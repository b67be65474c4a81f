"""The newest Open WebUI as somebody meets it who opens it for the first time: in a browser, with a microphone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import chromium, screenshots  # noqa: F401
from tests.clients.conftest import connected_environment
from tests.clients.open_webui import VERSIONS, OpenWebUI
from tests.gateway import Gateway

pytestmark = pytest.mark.openwebui

_ANSWER_MS = 120_000


@pytest.fixture(scope="module")
def open_webui(config: Path, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWebUI]:
    folder = tmp_path_factory.mktemp("open-webui-pages")
    open_webui = OpenWebUI(VERSIONS[-1], folder, connected_environment(config, gateway, folder))
    yield open_webui
    open_webui.stop()


@pytest.fixture(scope="module")
def signed_up(open_webui: OpenWebUI, recording: Path) -> Iterator[BrowserContext]:
    """What the browser of the first visitor remembers. Its microphone hears the recording."""
    microphone = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    with chromium(*microphone, f"--use-file-for-fake-audio-capture={recording}") as browser:
        context = browser.new_context(
            base_url=open_webui.url, viewport={"width": 1280, "height": 720}, permissions=["microphone"]
        )
        page = context.new_page()
        page.goto("/auth")
        page.get_by_role("button", name="Get started").click()
        page.get_by_role("textbox", name="Name").fill("Ada")
        page.get_by_role("textbox", name="Email").fill("ada@example.org")
        page.get_by_role("textbox", name="Password").fill("a password of the tests")
        page.get_by_role("button", name="Create Admin Account").click()
        page.get_by_role("button", name="Okay, Let's Go!").click()
        page.close()
        yield context


@pytest.fixture
def page(signed_up: BrowserContext) -> Iterator[Page]:
    page = signed_up.new_page()
    page.goto("/")
    yield page
    page.close()


def test_every_model_can_be_chosen(page: Page, screenshots: Path) -> None:  # noqa: F811
    page.get_by_role("button", name="Selected model: Small").click()
    for name in ("Small", "Other", "Ears", "Voice"):
        expect(page.get_by_role("option", name=f"Select {name} model")).to_be_visible()
    page.screenshot(path=screenshots / "open-webui-models.png", animations="disabled")


def test_an_answer_is_shown_and_read_aloud(page: Page, screenshots: Path) -> None:  # noqa: F811
    page.get_by_role("textbox", name="How can I help you today?").fill("Say hello.")
    page.keyboard.press("Enter")
    read_aloud = page.get_by_role("button", name="Read Aloud")
    expect(read_aloud).to_be_visible(timeout=_ANSWER_MS)
    page.screenshot(path=screenshots / "open-webui-chat.png", animations="disabled")
    with page.expect_response("**/api/v1/audio/speech") as spoken:
        read_aloud.click()
    assert spoken.value.status == 200


def test_what_is_said_is_written(page: Page) -> None:
    page.get_by_role("button", name="Voice Input").click()
    page.wait_for_timeout(4_000)  # the sentence takes three seconds to say
    with page.expect_response("**/api/v1/audio/transcriptions") as heard:
        page.get_by_role("button", name="Confirm recording").click()
    assert heard.value.status == 200, heard.value.text()
    expect(page.get_by_role("textbox")).to_contain_text("London")
