"""A real gateway for Open WebUI, and what it is told of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from llmux.cli import main
from tests.gateway import Gateway

SENTENCE = "On Monday the train leaves London at noon."

CONFIG = """\
model_list:
  - {{model_name: Small, litellm_params: {{model: llmux/small}}}}
  - {{model_name: Other, litellm_params: {{model: llmux/other}}}}
  - {{model_name: Ears, litellm_params: {{model: llmux/ears}}}}
  - {{model_name: Voice, litellm_params: {{model: llmux/voice}}}}
llmux:
  budget: 900 MB  # one of the two that chat, and those for speech
  models_dir: {models}
  models:
    small: &chat
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 2048,
        estimate: 400 MB}}
    other: *chat
    ears: {{task: asr, runtime: transformers, weights: whisper-base, estimate: 300 MB}}
    voice: {{task: tts, runtime: hibari, estimate: 100 MB}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Path:
    path = tmp_path_factory.mktemp("gateway") / "config.yaml"
    path.write_text(CONFIG.format(models=demo_models))
    return path


@pytest.fixture(scope="module")
def gateway(config: Path) -> Iterator[Gateway]:
    gateway = Gateway(config)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def recording(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "sentence.wav"
    spoken = gateway.openai().audio.speech.create(
        model="Voice", voice="default", input=SENTENCE, response_format="wav", extra_body={"seed": 1}
    )
    path.write_bytes(spoken.content)
    return path


def connect(config: Path, gateway: Gateway, *options: str) -> str:
    told = ["connect", "open-webui", "--config", str(config), "--url", gateway.url, *options]
    result = CliRunner().invoke(main, told)
    assert result.exit_code == 0, result.output
    return result.output


def connected_environment(config: Path, gateway: Gateway, folder: Path) -> Mapping[str, str]:
    """As a container reads it from the file that is written for it."""
    connect(config, gateway, "--write", str(folder / "open-webui.env"))
    lines = (folder / "open-webui.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))
