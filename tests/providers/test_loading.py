import asyncio
import importlib
import inspect
from pathlib import Path

import pytest

import providers.loading
from llmux.config import RUNTIMES, Model, load_config
from llmux.errors import RuntimeMissing, WeightsMissing
from providers.loading import MODULES, Loading, voices_of
from providers.runtime import Clip, SpeechRuntime

CONFIG = """\
model_list:
  - {model_name: Voice, litellm_params: {model: llmux/voice}}
  - {model_name: Chatterbox, litellm_params: {model: llmux/chatterbox}}
  - {model_name: One, litellm_params: {model: llmux/one}}
  - {model_name: Two, litellm_params: {model: llmux/two}}
  - {model_name: Three, litellm_params: {model: llmux/three}}
llmux:
  models:
    one: {task: llm, runtime: transformers, weights: org/one, estimate: 1 MB}
    two: {task: llm, runtime: transformers, weights: org/two, estimate: 1 MB}
    three: {task: llm, runtime: llama.cpp, weights: org/three, file: three.gguf, estimate: 1 MB}
    voice: {task: tts, runtime: hibari, estimate: 1 MB}
    chatterbox: {task: tts, runtime: chatterbox, weights: org/voice, estimate: 1 MB}
"""


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return Loading(load_config(tmp_path / "config.yaml"))


async def test_a_model_is_loaded_by_the_runtime_that_its_configuration_names(loading: Loading) -> None:
    runtime = await loading.load("voice")
    assert isinstance(runtime, SpeechRuntime)
    await loading.unload("voice", runtime)


async def test_weights_that_are_not_there_are_not_looked_for_by_a_runtime(loading: Loading) -> None:
    with pytest.raises(WeightsMissing):
        await loading.load("chatterbox")


async def test_a_runtime_that_this_version_lacks_is_a_501(
    loading: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers.loading, "MODULES", {})
    folder = tmp_path / "models/org/voice"
    folder.mkdir(parents=True)
    for name in ("ve.safetensors", "t3_cfg.safetensors", "s3gen.safetensors", "tokenizer.json", "conds.pt"):
        (folder / name).touch()
    with pytest.raises(RuntimeMissing, match="chatterbox"):
        await loading.load("chatterbox")


async def test_loads_by_torch_take_turns_and_others_do_not_wait_for_them(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    third, end = asyncio.Event(), asyncio.Event()

    async def load(model: Model, folder: Path) -> None:
        begun.append(folder.name)
        if folder.name == "three":
            third.set()
        await end.wait()

    monkeypatch.setattr("providers.loading.require_weights", lambda model, config: None)
    for module in ("providers.transformers_chat", "providers.llamacpp"):
        monkeypatch.setattr(importlib.import_module(module), "load", load)
    async with asyncio.TaskGroup() as loads:
        for model in ("one", "two", "three"):
            loads.create_task(loading.load(model))
        await third.wait()
        assert begun == ["one", "three"]
        end.set()
    assert begun == ["one", "three", "two"]


@pytest.mark.parametrize("named", MODULES)
def test_every_module_can_load(named: tuple[str, str]) -> None:
    task, runtime = named
    assert runtime in RUNTIMES[task]  # type: ignore[index]
    assert inspect.iscoroutinefunction(importlib.import_module(MODULES[named]).load)  # type: ignore[index]


@pytest.mark.parametrize("named", [named for named in MODULES if named[0] == "tts"])
def test_every_speech_module_knows_its_voices(named: tuple[str, str]) -> None:
    model = Model.model_validate({"task": "tts", "runtime": named[1], "weights": "x", "estimate": "1 MB"})
    names = voices_of(model, {"anna": Clip("anna", "anna.wav")})
    assert ("anna" in names) == (named[1] == "chatterbox")
