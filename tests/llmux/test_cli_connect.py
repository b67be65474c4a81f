"""`llmux connect` as it is typed. tests/clients has the real clients."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from llmux import cli_connect
from llmux.cli import main
from llmux.cli_connect import TOKEN_VARIABLE
from llmux.client_keys import CLIENTS, FILE
from llmux.secrets import write_private
from tests.gateway import free_port

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"
KEYS = {name: f"sk-of-{number}-0123456789" for number, name in enumerate(CLIENTS)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "litellm_config.yaml"
    path.write_text(SHIPPED.read_text().replace("port: 8081", f"port: {free_port()}"))
    write_private(tmp_path / "state" / FILE, json.dumps(KEYS))
    return path


def connect(config: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["connect", *arguments, "--config", str(config)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(
    ("client", "key"), [("open-webui", "Open WebUI"), ("opencode", "OpenCode"), ("whisper", "Remote Whisper clients")]
)
def test_a_key_is_printed_only_where_it_is_asked_for(config: Path, client: str, key: str) -> None:
    assert "sk-of" not in connect(config, client)
    asked = connect(config, client, "--show-key")
    assert [name for name, each in KEYS.items() if each in asked] == [key]


def test_a_terminal_is_shown_the_key(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_connect, "_shown", lambda key, show_key: key)
    assert KEYS["Remote Whisper clients"] in connect(config, "whisper")


def test_a_file_with_the_key_is_for_its_owner_alone(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "open-webui.env"
    file.write_text("old")
    file.chmod(0o644)
    assert "sk-of" not in connect(config, "open-webui", "--write", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"OPENAI_API_KEY={KEYS['Open WebUI']}\n" in file.read_text()


def test_opencodes_file_keeps_what_is_there_its_mode_and_its_link(config: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.json", tmp_path / "new" / "opencode.json"
    real.write_text('{"theme": "dark"}')
    real.chmod(0o640)
    link.parent.mkdir()
    link.symlink_to(real)
    connect(config, "opencode", "--write", str(link), "--model", "Qwen3.5-4B-Thinking")
    written = json.loads(real.read_text())
    assert (written["theme"], written["model"]) == ("dark", "llmux/Qwen3.5-4B-Thinking")
    assert "sk-of" not in real.read_text()
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_opencodes_file_is_made_where_there_is_none(config: Path, tmp_path: Path) -> None:
    connect(config, "opencode", "--write", str(tmp_path / "a" / "opencode.json"))
    assert "llmux" in json.loads((tmp_path / "a" / "opencode.json").read_text())["provider"]


def test_comments_are_not_thrown_away(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "opencode.jsonc"
    file.write_text('{\n  // mine\n  "theme": "dark"\n}')
    assert "comments would be lost" in connect(config, "opencode", "--write", str(file), code=1)
    assert "// mine" in file.read_text()


def test_too_little_context_for_opencode_is_said(config: Path) -> None:
    assert "too short" not in connect(config, "opencode")
    config.write_text(config.read_text().replace("weights: Qwen/Qwen3.5-4B\n", "weights: x\n      context: 8192\n"))
    assert "too short are Qwen3.5-4B-Thinking, Qwen3.5-4B-Instruct" in connect(config, "opencode")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("open-webui", "--model", "GPT-5"), "no chat model 'GPT-5'"),
        (("open-webui", "--task-model", "Chatterbox"), "no chat model 'Chatterbox'"),
        (("opencode", "--model", "cohere-transcribe"), "no chat model 'cohere-transcribe'"),
        (("whisper", "--model", "Chatterbox"), "no model 'Chatterbox' that transcribes"),
        (("whisper", "--key-variable", "NOT_SET_ANYWHERE"), "NOT_SET_ANYWHERE is not set"),
        (("open-webui", "--configure", "http://127.0.0.1:1"), f"set {TOKEN_VARIABLE}"),
    ],
)
def test_what_cannot_be_done_is_said(
    config: Path, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert said in connect(config, *arguments, code=1)


def test_an_open_webui_that_does_not_run_is_said(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "token")
    url = f"http://127.0.0.1:{free_port()}"
    assert f"no Open WebUI answers at {url}" in connect(config, "open-webui", "--configure", url, code=1)


def test_a_file_and_an_open_webui_that_runs_are_two_things(config: Path) -> None:
    assert "--configure" in connect(config, "open-webui", "--write", "x", "--configure", "http://x", code=2)
