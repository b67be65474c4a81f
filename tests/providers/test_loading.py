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
llmux:
  models:
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
