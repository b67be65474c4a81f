"""The real OpenCode, set up by `llmux connect opencode`, at the real gateway."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from llmux.cli import main
from tests.clients.opencode import OpenCode, said
from tests.gateway import MASTER_KEY, Gateway

CONFIG = """\
model_list:
  - {model_name: Thinking, litellm_params: {model: llmux/qwen, view: {enable_thinking: true}}}
  - {model_name: Instruct, litellm_params: {model: llmux/qwen, view: {enable_thinking: false}}}
llmux:
  budget: 10 GB
  database: none
  models:
    qwen: {task: llm, runtime: transformers, weights: QWEN, estimate: 1 GB, capabilities: [vision, tools]}
"""

SMALL = """\
model_list:
  - {{model_name: SmolLM2, litellm_params: {{model: llmux/smollm2, temperature: 0}}}}
llmux:
  budget: 650 MB
  database: none
  models_dir: {models}
  models:
    smollm2:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 8192,
        estimate: 300 MB}}
"""

TASK = """\
I run it.
</think>

<tool_call>
<function=bash>
<parameter=command>
sh task.sh
</parameter>
<parameter=description>
Write the list
</parameter>
</function>
</tool_call>"""

SCRIPT = """\
echo milk > list.txt
echo '[[It ran.</think>

The list is written.]]'
"""
"""What the scripted model says next is what the tool's result tells it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opencode")
    (folder / "models" / "QWEN").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / "models" / "QWEN" / name).touch()
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def scripted(folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(folder / "config.yaml", module="tests.scripted")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def small_config(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Path:
    config = tmp_path_factory.mktemp("small") / "config.yaml"
    config.write_text(SMALL.format(models=demo_models))
    return config


@pytest.fixture(scope="module")
def small(small_config: Path) -> Iterator[Gateway]:
    gateway = Gateway(small_config)
    yield gateway
    gateway.stop()


def connected(gateway: Gateway, config: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> OpenCode:
    """In a folder whose opencode.json has an agent without tools, and now this gateway."""
    monkeypatch.setenv("LLMUX_KEY", MASTER_KEY)
    (folder / "opencode.json").write_text(
        json.dumps({"agent": {"plain": {"prompt": "Answer.", "tools": {"*": False}}}})
    )
    told = ["connect", "opencode", "--config", str(config), "--url", gateway.url, "--key-variable", "LLMUX_KEY"]
    result = CliRunner().invoke(main, [*told, "--write", str(folder / "opencode.json")])
    assert result.exit_code == 0, result.output
    return OpenCode(folder, home=folder / "home", key=MASTER_KEY)


def test_a_task_is_done_with_a_tool(
    scripted: Gateway, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opencode = connected(scripted, folder / "config.yaml", tmp_path, monkeypatch)
    (tmp_path / "task.sh").write_text(SCRIPT)
    events = opencode.run(f"[[{TASK}]]")
    assert (tmp_path / "list.txt").read_text() == "milk\n"
    assert said(events).strip() == "The list is written."
    assert [event["part"]["reason"] for event in events if event["type"] == "step_finish"] == ["tool-calls", "stop"]
    loads = [line for line in scripted.log if "vram.transfer" in line]
    assert len(loads) == 1, "its request for a title loads nothing more"


def test_a_question_is_answered_without_tools_by_a_model_of_little_context(
    small: Gateway, small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opencode = connected(small, small_config, tmp_path, monkeypatch)
    events = opencode.run("What is the capital of France?", "--agent", "plain")
    assert said(events).strip()  # whatever: OpenCode tells this little model of the day and the folder, and it listens
    (ended,) = [event["part"]["reason"] for event in events if event["type"] == "step_finish"]
    assert ended in ("stop", "length")


def test_a_key_that_is_wrong_is_said_at_once(
    scripted: Gateway, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected(scripted, folder / "config.yaml", tmp_path, monkeypatch)
    (error,) = OpenCode(tmp_path, home=tmp_path / "home", key="sk-a-wrong-key-0123456789").run("Hello.")
    assert error["error"]["data"]["statusCode"] == 401
    assert error["error"]["data"]["isRetryable"] is False
