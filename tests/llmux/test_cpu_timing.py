import asyncio
import os
from pathlib import Path

import pytest

from llmux.config import Config, load_config
from llmux.cpu_timing import on_cpu
from llmux.errors import LoadFailed

CONFIG = """\
model_list:
  - {{model_name: Chat, litellm_params: {{model: llmux/small}}}}
llmux:
  budget: 1 GB
  database: none
  models_dir: {models}
  models:
    small:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 512,
        estimate: 300 MB}}
    absent: {{task: llm, runtime: llama.cpp, weights: org/absent, file: absent.gguf, estimate: 1 MB}}
"""


@pytest.fixture
def config(tmp_path: Path, demo_models: Path) -> Config:
    (tmp_path / "config.yaml").write_text(CONFIG.format(models=demo_models))
    return load_config(tmp_path / "config.yaml")


async def test_a_real_model_is_timed_in_a_process_without_a_gpu(config: Config) -> None:
    assert 0 < await on_cpu("small", config) < 60


async def test_what_cannot_be_loaded_there_says_why(config: Config) -> None:
    with pytest.raises(LoadFailed, match="absent could not be timed on the CPU: the weights of absent are not here"):
        await on_cpu("absent", config)


async def test_a_process_that_dies_is_an_error_and_not_an_answer(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(LoadFailed, match="ended with 1"):
        await on_cpu("small", config)


async def test_whoever_no_longer_waits_for_it_ends_it(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = config.path.parent / "sleeper"
    sleeper.write_text('#!/bin/sh\necho $$ > "$3.pid"\nexec sleep 600\n')
    os.mkfifo(noted := config.path.with_name("config.yaml.pid"))
    sleeper.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(sleeper))
    timing = asyncio.create_task(on_cpu("small", config))
    process = int(await asyncio.to_thread(noted.read_text))
    timing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await timing
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
