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
    path.write_text(SHIPPED.read_text())
    return str(path)


def run(*arguments: str, fails: bool = False) -> str:
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code != 0) is fails, result.output
    return result.output


@pytest.mark.parametrize(
    "command", [(), ("serve",), ("check",), ("keys",), ("keys", "create"), ("keys", "revoke"), ("weights", "fetch")]
)
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    assert "Usage:" in run(*command, "--help")


def test_check_lists_each_name_and_the_command_that_fetches_its_weights(config: str) -> None:
    said = run("check", "--config", config)
    assert len(said.splitlines()) == 16
    assert "python -m llmux weights fetch gpt-oss-20b" in said


def test_a_mistake_in_the_configuration_is_one_line_without_a_traceback(config: str) -> None:
    Path(config).write_text(SHIPPED.read_text().replace("budget: 16 GB", "budget: much"))
    said = run("serve", "--config", config, fails=True)
    assert said.count("\n") == 1
    assert "llmux.budget: a size needs a number and a unit" in said


def test_a_key_is_shown_once_listed_by_name_and_revoked(config: str) -> None:
    key = run("keys", "create", "Open WebUI", "--models", "Qwen3.5-4B-Instruct", "--config", config).strip()
    assert key.startswith("sk-")
    listed = run("keys", "list", "--config", config)
    assert "Open WebUI" in listed
    assert "Qwen3.5-4B-Instruct" in listed
    assert key not in listed
    run("keys", "revoke", "Open WebUI", "--config", config)
    assert run("keys", "list", "--config", config) == ""


def test_a_key_for_no_model_is_refused(config: str) -> None:
    assert "python -m llmux check" in run("keys", "create", "x", "--models", "GPT-5", "--config", config, fails=True)


def test_the_master_key_is_made_once(config: str) -> None:
    assert run("keys", "master", "--config", config) == run("keys", "master", "--config", config)


def test_fetching_an_unknown_model_says_so(config: str) -> None:
    assert "no physical model 'qwen'" in run("weights", "fetch", "qwen", "--config", config, fails=True)
