"""Keys in the database of a real gateway: those of the first start, and what `llmux keys` does with others."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from llmux.cli import main
from llmux.client_keys import FILE
from llmux.secrets import MASTER_KEY_VARIABLE
from tests.gateway import MASTER_KEY, Gateway

CONFIG = """\
model_list:
  - {model_name: Chat, litellm_params: {model: llmux/chat}}
  - {model_name: Ears, litellm_params: {model: llmux/ears}}
llmux:
  budget: 650 MB
  models:
    chat: {task: llm, runtime: llama.cpp, weights: org/chat, file: chat.gguf, estimate: 1 MB}
    ears: {task: asr, runtime: transformers, weights: org/ears, estimate: 1 MB}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "config.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def gateway(config: Path) -> Iterator[Gateway]:
    gateway = Gateway(config)
    yield gateway
    gateway.stop()


@pytest.fixture
def keys(config: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> "Keys":
    monkeypatch.setenv(MASTER_KEY_VARIABLE, MASTER_KEY)
    return Keys(config, gateway.port)


class Keys:
    """`llmux keys`, asking this gateway."""

    def __init__(self, config: Path, port: int) -> None:
        self._where = ("--config", str(config), "--port", str(port))

    def __call__(self, *arguments: str, fails: bool = False) -> str:
        result = CliRunner().invoke(main, ["keys", *arguments, *self._where])
        assert (result.exit_code != 0) is fails, result.output
        return result.output


def models(gateway: Gateway, key: str) -> list[str]:
    """The names that are listed for a key; its status where it is refused."""
    with gateway.http(key) as http:
        answer = http.get("/v1/models")
    return [str(answer.status_code)] if answer.is_error else [model["id"] for model in answer.json()["data"]]


def test_the_first_start_makes_a_key_for_each_client_in_a_private_file_and_logs_none(
    config: Path, gateway: Gateway
) -> None:
    path = config.parent / "state" / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = json.loads(path.read_text())
    assert {name: models(gateway, key) for name, key in made.items()} == {
        "Open WebUI": ["Chat", "Ears"],
        "OpenCode": ["Chat", "Ears"],
        "Remote Whisper clients": ["Ears"],
    }
    assert not [line for line in gateway.log for key in made.values() if key in line]


def test_a_key_is_shown_once_changed_and_revoked(gateway: Gateway, keys: Keys) -> None:
    key = keys("create", "Guest", "--models", "Chat", "--max-budget", "5", "--rpm", "20", "--expires", "7d").strip()
    assert models(gateway, key) == ["Chat"]
    listed = keys("list")
    assert key not in listed
    (guest,) = (line for line in listed.splitlines() if line.strip().startswith("Guest"))
    assert "0 of 5" in guest
    assert "20 rpm" in guest

    keys("update", "Guest", "--models", "none", "--rpm", "none", "--max-budget", "none", "--parallel", "2")
    (guest,) = (line for line in keys("list").splitlines() if line.strip().startswith("Guest"))
    assert guest.split()[:5] == ["Guest", "all", "0", "2", "parallel"]
    assert models(gateway, key) == ["Chat", "Ears"]

    keys("revoke", "Guest")
    assert models(gateway, key) == ["401"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "OpenCode"), "OpenCode"),
        (("update", "nobody", "--rpm", "3"), "no key named 'nobody'"),
        (("revoke", "nobody"), "no key named 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(keys: Keys, arguments: tuple[str, ...], said: str) -> None:
    message = keys(*arguments, fails=True)
    assert said in message
    assert message.count("\n") == 1


def test_a_client_key_that_was_revoked_does_not_come_back(config: Path, keys: Keys, gateway: Gateway) -> None:
    revoked = json.loads((config.parent / "state" / FILE).read_text())["OpenCode"]
    keys("revoke", "OpenCode")
    gateway.restart()
    assert models(gateway, revoked) == ["401"]
    assert "OpenCode" not in keys("list")
