"""A real Chromium, and a real gateway whose admin UI it opens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import chromium, screenshots  # noqa: F401 (a fixture)
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
    with chromium() as browser:
        yield browser


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
