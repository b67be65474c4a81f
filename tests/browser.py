"""A real Chromium, for the tests that look at pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

# As root in a container there is no sandbox for it; and it is to ask for nothing but the pages under test.
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """The system's, with a profile that is new and goes with it."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program is not None, "these tests need chromium: see tests/system-packages.txt"
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*_ARGUMENTS, *arguments])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for pictures."""
    return request.config.getoption("--screenshots") or tmp_path_factory.mktemp("screenshots")
