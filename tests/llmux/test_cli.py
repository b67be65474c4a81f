import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmux import status
from llmux.cli import main
from llmux.running import RunningGateway
from llmux.secrets import MASTER_KEY_VARIABLE
from tests.snapshots import state
from vram.snapshot import Snapshot

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
    "command",
    [
        (),
        ("serve",),
        ("status",),
        ("check",),
        ("keys",),
        ("keys", "create"),
        ("keys", "revoke"),
        ("weights", "fetch"),
        ("bench",),
        ("acceptance",),
    ],
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


def test_fetching_an_unknown_model_says_so(config: str) -> None:
    assert "no physical model 'qwen'" in run("weights", "fetch", "qwen", "--config", config, fails=True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The addresses that are asked, and for what; the gateway has one model."""
    asked: list[tuple[str, str]] = []
    vram = status.report(Snapshot(16 * 10**9, 0, 0, 0, 16 * 10**9, (state("qwen3.5-4b"),)))

    def get(gateway: RunningGateway, path: str) -> dict[str, Any]:
        asked.append((gateway.url, path))
        return vram

    monkeypatch.setattr(RunningGateway, "get", get)
    return asked


def test_status_is_a_table_or_json(config: str, asked: list[tuple[str, str]]) -> None:
    assert "qwen3.5-4b" in run("status", "--config", config)
    assert json.loads(run("status", "--config", config, "--json"))["budget_gb"] == 16.0
    assert asked == [("http://127.0.0.1:8081", "/vram")] * 2


def test_a_watched_status_ends_with_ctrl_c_and_without_an_error(
    config: str, asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    assert "qwen3.5-4b" in run("status", "--config", config, "--watch")
    assert len(asked) == 1
    run("status", "--config", config, "--watch", "--json", fails=True)


def test_status_without_a_gateway_names_the_command_that_starts_one(config: str) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        said = run("status", "--config", config, "--port", str(unheard.getsockname()[1]), fails=True)
    assert "python -m llmux serve" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("passes", "fails"), [(True, False), (False, True)])
def test_bench_prints_the_report_and_ends_with_its_verdict(
    config: str, monkeypatch: pytest.MonkeyPatch, passes: bool, fails: bool
) -> None:
    def post(gateway: RunningGateway, path: str, body: Any, *, answer_s: float) -> dict[str, Any]:
        assert (path, body) == ("/admin/test/performance", {"physical_model_id": "qwen3.5-4b"})
        assert answer_s == 3600
        return {"model": "qwen3.5-4b", "pass": passes}

    monkeypatch.setattr(RunningGateway, "post", post)
    assert json.loads(run("bench", "qwen3.5-4b", "--config", config, fails=fails))["pass"] is passes
