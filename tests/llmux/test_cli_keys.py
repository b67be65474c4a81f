"""The commands where a file holds the keys. tests/test_keys.py has those that ask a gateway with a database."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from llmux.cli import main
from llmux.secrets import MASTER_KEY_VARIABLE

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv(MASTER_KEY_VARIABLE, raising=False)
    path = tmp_path / "litellm_config.yaml"
    path.write_text(SHIPPED.read_text().replace("database: embedded", "database: none"))
    return str(path)


def keys(*arguments: str, config: str, fails: bool = False) -> str:
    result = CliRunner().invoke(main, ["keys", *arguments, "--config", config])
    assert (result.exit_code != 0) is fails, result.output
    return result.output


def test_a_key_is_shown_once_listed_by_name_and_revoked(config: str) -> None:
    key = keys("create", "Open WebUI", "--models", "Qwen3.5-4B-Instruct, speech", config=config).strip()
    assert key.startswith("sk-")
    listed = keys("list", config=config)
    assert "Open WebUI" in listed
    assert "Qwen3.5-4B-Instruct" in listed
    assert "speech" in listed
    assert key not in listed
    keys("revoke", "Open WebUI", config=config)
    assert keys("list", config=config) == "There is no key yet.\n"


def test_what_a_key_may_use_can_be_changed(config: str) -> None:
    keys("create", "Dictation", "--models", "transcription", config=config)
    keys("update", "Dictation", "--models", "none", config=config)
    assert "transcription" not in keys("list", config=config)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "x", "--models", "GPT-5"), "python -m llmux check"),
        (("create", "x", "--models", ","), "names no model"),
        (("create", "x", "--rpm", "many"), "whole number"),
        (("create", "x", "--max-budget", "nan"), "number from 0 on"),
        (("create", "x", "--expires", "tomorrow"), "12h, 30d or 8w"),
        (("create", "x", "--rpm", "3"), "--rpm needs a database"),
        (("create", " "), "a name of one line"),
        (("update", "x"), "--max-budget 10"),
        (("update", "nobody", "--models", "chat"), "no key named 'nobody'"),
        (("revoke", "nobody"), "no key named 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said(config: str, arguments: tuple[str, ...], said: str) -> None:
    assert said in keys(*arguments, config=config, fails=True)


def test_the_master_key_is_made_once(config: str) -> None:
    assert keys("master", config=config) == keys("master", config=config)
