"""A real Chromium, and a real gateway whose admin UI it opens."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.gateway import Gateway

CONFIG = """\
model_list:
  - model_name: Chat
    litellm_params: {{model: llmux/smollm2}}
    model_info: {{input_cost_per_token: 0.01, output_cost_per_token: 0.02}}
  - {{model_name: Another, litellm_params: {{model: llmux/smollm2}}}}
general_settings: {{proxy_batch_write_at: 1}}  # seconds after which spend is written
llmux:
  budget: 650 MB
  models_dir: {models}
  models:
    smollm2:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 2048,
        estimate: 300 MB}}
"""

# As root in a container there is no sandbox for it; and it is to ask for nothing but the pages under test.
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="write the pictures of docs/ into this folder")


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for pictures."""
    return request.config.getoption("--screenshots") or tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the gateway's configuration and state lie."""
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="session")
def gateway(folder: Path, demo_models: Path) -> Iterator[Gateway]:
    (folder / "config.yaml").write_text(CONFIG.format(models=demo_models))
    gateway = Gateway(folder / "config.yaml")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def password(folder: Path, gateway: Gateway) -> str:
    """What the first start made for the user admin."""
    return (folder / "state" / "ui_password").read_text().strip()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, with a profile that is new and goes with it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium is not None, "these tests need chromium: see tests/system-packages.txt"
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, gateway: Gateway) -> Iterator[Page]:
    """A page of somebody who has not logged in."""
    with browser.new_context(base_url=gateway.url) as context:
        yield context.new_page()


@pytest.fixture(scope="session")
def logged_in(browser: Browser, gateway: Gateway, password: str) -> Iterator[BrowserContext]:
    """What an administrator's browser remembers."""
    with browser.new_context(base_url=gateway.url, viewport={"width": 1440, "height": 600}) as context:
        page = context.new_page()
        log_in(page, password)
        expect(page.get_by_role("link", name="Virtual Keys")).to_be_visible()
        page.close()
        yield context


@pytest.fixture
def page(logged_in: BrowserContext) -> Iterator[Page]:
    """A page of an administrator."""
    page = logged_in.new_page()
    yield page
    page.close()


def log_in(page: Page, password: str) -> None:
    page.goto("/ui/login/")
    page.get_by_label("Username").fill("admin")
    page.get_by_role("textbox", name="Password").fill(password)
    page.get_by_role("button", name="Login", exact=True).click()
