"""The admin UI as an administrator meets it: in a browser, beside a client that uses the keys."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Request, expect
from playwright.sync_api import TimeoutError as NotShown

from tests.gateway import Gateway
from tests.ui.conftest import log_in

pytestmark = pytest.mark.ui

PAGES = ["", "api-keys/", "usage/", "logs/", "models-and-endpoints/"]


def create_key(page: Page, name: str) -> str:
    """A key for Chat alone, with a budget of 5 dollars."""
    page.goto("/ui/api-keys/")
    page.get_by_role("button", name="Create New Key").click()
    form = page.get_by_role("dialog", name="Create New Key")
    form.get_by_label("Key Name").fill(name)
    form.get_by_role("combobox", name="Select models").click()
    page.get_by_role("option", name="Chat", exact=True).click()
    page.keyboard.press("Escape")
    form.get_by_role("button", name="Optional Settings").click()
    form.get_by_label("Max Budget (USD)").fill("5")
    form.get_by_role("button", name="Create Key").click()
    shown = page.get_by_role("dialog", name="Save your Key").get_by_text(re.compile(r"^sk-"))
    key = shown.inner_text()
    page.keyboard.press("Escape")
    return key


def chat(gateway: Gateway, key: str, model: str = "Chat") -> float:
    """What a short talk cost, by the prices of the configuration."""
    answer = gateway.openai(key).chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=8
    )
    assert answer.usage is not None
    return answer.usage.prompt_tokens * 0.01 + answer.usage.completion_tokens * 0.02


def reload_until(page: Page, shown: Locator, within_s: float = 30) -> None:
    """Spend and logs are written a moment after the answer, and the pages do not hear of it."""
    end = time.monotonic() + within_s
    while True:
        try:
            return shown.wait_for(timeout=5_000)
        except NotShown:
            assert time.monotonic() < end, page.locator("body").inner_text()
            page.reload()


def picture(page: Page, path: Path) -> None:
    """Of what is on a page, without the menu and the hints around it."""
    for name in ("Collapse sidebar", "Dismiss search hint"):
        button = page.get_by_role("button", name=name)
        if button.is_visible():
            button.click()
    page.screenshot(path=path, animations="disabled")


@dataclass(frozen=True)
class Used:
    """A key that somebody has used once. cost: in dollars"""

    name: str
    key: str = field(repr=False)
    cost: float


@pytest.fixture(scope="module")
def used(logged_in: BrowserContext, gateway: Gateway) -> Used:
    page = logged_in.new_page()
    key = create_key(page, "Living room")
    page.close()
    return Used("Living room", key, chat(gateway, key))


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has_text=name)


def test_a_wrong_password_opens_nothing(visitor: Page) -> None:
    log_in(visitor, "not the password")
    expect(visitor.get_by_text("Invalid credentials")).to_be_visible()
    visitor.goto("/ui/api-keys/")
    expect(visitor).to_have_url(re.compile("/ui/login"))


def test_the_keys_of_the_first_start_are_there(page: Page) -> None:
    page.goto("/ui/api-keys/")
    for name in ("Open WebUI", "OpenCode", "Remote Whisper clients"):
        expect(row(page, name)).to_be_visible()


def test_a_key_made_here_may_use_its_model_and_no_other(used: Used, gateway: Gateway) -> None:
    assert used.cost > 0
    with pytest.raises(openai.PermissionDeniedError) as refused:
        chat(gateway, used.key, model="Another")
    assert used.key not in str(refused.value)


def test_a_key_made_here_is_no_administrators(used: Used, gateway: Gateway) -> None:
    with gateway.http(used.key) as http:
        assert http.post("/key/generate", json={}).status_code == 403
        assert http.post("/vram/unload", json={"model": "smollm2"}).status_code == 403


def test_a_keys_spend_stands_beside_its_budget(used: Used, page: Page, screenshots: Path) -> None:
    page.goto("/ui/api-keys/")
    reload_until(page, row(page, used.name).get_by_text(f"${used.cost:.4f} of $5").first)
    expect(page.locator("body")).not_to_contain_text(used.key)
    picture(page, screenshots / "admin-keys.png")


def test_a_request_is_in_the_log_with_its_key_and_its_cost(
    used: Used, page: Page, gateway: Gateway, screenshots: Path
) -> None:
    page.goto("/ui/logs/")
    request = row(page, used.name).filter(has_text="Success")
    reload_until(page, request)
    expect(request).to_contain_text("llmux/smollm2")
    expect(request).to_contain_text(f"${used.cost:.2f}")
    picture(page, screenshots / "admin-logs.png")
    with gateway.http() as http:
        detail = http.get(f"/spend/logs/ui/{request.get_attribute('data-row-id')}")
    assert detail.json() is not None
    assert "Say hello" not in detail.text, "what is asked is not kept"


def test_spend_is_added_up_by_day(used: Used, page: Page) -> None:
    page.goto("/ui/usage/")
    reload_until(page, page.get_by_text(used.name).first)


def test_a_key_can_be_given_another_budget(page: Page, gateway: Gateway) -> None:
    key = create_key(page, "Kitchen")
    row(page, "Kitchen").get_by_role("button").click()
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("button", name="Edit Settings").click()
    page.get_by_label("Max Budget (USD)").fill("7")
    page.get_by_role("button", name="Save Changes").click()
    expect(page.get_by_text("Key updated successfully")).to_be_visible()
    with gateway.http() as http:
        assert http.get("/key/info", params={"key": key}).json()["info"]["max_budget"] == 7


def test_a_deleted_key_is_refused_at_once(page: Page, gateway: Gateway) -> None:
    key = create_key(page, "Lost laptop")
    assert chat(gateway, key) > 0
    row(page, "Lost laptop").get_by_role("button").click()
    page.get_by_role("button", name="More key actions").click()
    page.get_by_role("menuitem", name="Delete Key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("Lost laptop")
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog).to_be_hidden()
    with pytest.raises(openai.AuthenticationError):
        chat(gateway, key)


def test_logging_out_ends_the_session_and_not_only_its_cookie(visitor: Page, gateway: Gateway, password: str) -> None:
    log_in(visitor, password)
    visitor.get_by_role("button", name="Account menu").click()
    with visitor.expect_response("**/session/logout") as answer:
        visitor.get_by_text("Logout").click()
    key = answer.value.request.headers["authorization"].removeprefix("Bearer ")
    expect(visitor).to_have_url(re.compile("/ui/login"))
    with gateway.http(key) as http:
        assert http.get("/key/list").status_code == 401


def test_no_page_asks_another_host_for_anything(page: Page, gateway: Gateway) -> None:
    asked: list[Request] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request))
    page.on("console", lambda message: complaints.append(message.text))
    for name in PAGES:
        page.goto(f"/ui/{name}", wait_until="networkidle")
    assert len(asked) > len(PAGES)
    assert [request.url for request in asked if not request.url.startswith((gateway.url, "data:", "blob:"))] == []
    assert [text for text in complaints if "Content Security Policy" in text] == []
