import faulthandler
import io
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest

from llmux.logs import LEVEL_VARIABLE, log_to_stderr


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written() -> str:
    """What the gateway's log says of an error in uvicorn, and of an error and a detail in LiteLLM."""
    with redirect_stderr(io.StringIO()) as stream:
        log_to_stderr()
        try:
            raise ValueError("prompt text")
        except ValueError:
            logging.getLogger("uvicorn.error").exception("failed")
        logging.getLogger("LiteLLM Proxy").error("a request said: ...")
        logging.getLogger("LiteLLM").debug("detail")
    return stream.getvalue()


def test_by_default_an_exception_is_its_type_and_litellm_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEVEL_VARIABLE, raising=False)
    said = written()
    assert "ValueError; LLMUX_LOG=debug shows where" in said
    assert "Traceback" not in said
    assert "prompt text" not in said
    assert "a request said" not in said


def test_what_litellm_retries_is_not_told_a_line_a_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEVEL_VARIABLE, raising=False)
    for name in ("apscheduler.scheduler", "apscheduler.executors.default"):  # as LiteLLM sets them when it is imported
        logging.getLogger(name).setLevel(logging.WARNING)
    with redirect_stderr(io.StringIO()) as stream:
        log_to_stderr()
        for name in ("apscheduler.scheduler", "apscheduler.executors.default", "backoff"):
            logging.getLogger(name).error("again")
    assert stream.getvalue() == ""


def test_debug_shows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEVEL_VARIABLE, "debug")
    crashes = []
    monkeypatch.setattr(faulthandler, "enable", lambda: crashes.append("shown"))
    said = written()
    assert crashes == ["shown"]
    assert "Traceback" in said
    assert "a request said" in said
    assert "detail" in said
