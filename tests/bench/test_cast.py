"""Who plays each model on this machine, which has no GPU."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from bench.cast import Cast, cast, serve, why_not
from bench.gpu_vram import configuration
from bench.shipped import write_random
from bench.stand_in import StandIn
from llmux.config import Config
from providers.loading import Loading
from providers.transformers_chat import TransformersChat


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration(tmp_path)


@pytest.mark.parametrize("name", ["qwen3.5-4b", "cohere-transcribe"])
def test_what_llmux_s_own_runtime_can_do_it_does(name: str, config: Config) -> None:
    assert why_not(name, config) is None


def test_packed_types_need_their_kernels(config: Config) -> None:
    assert importlib.util.find_spec("kernels") is None
    for name in ("qwen3.5-9b-fp8", "gpt-oss-20b"):
        assert "kernels package is not installed" in str(why_not(name, config))


def test_a_llama_cpp_without_cuda_is_no_use(config: Config) -> None:
    assert why_not("qwen3.5-9b-fp8-uncensored", config) == "llama.cpp is built without CUDA"


def test_what_fails_in_the_rehearsal_is_said_in_a_line(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Loading, model: str) -> Any:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(Loading, "load", broken)
    assert why_not("qwen3.5-4b", config) == "RuntimeError: no kernel image"


def test_a_stand_in_plays_what_no_runtime_can_and_a_gguf_has_none(config: Config) -> None:
    models = config.settings.models
    for name in set(models) - {"chatterbox", "qwen3.5-9b-fp8-uncensored"}:
        del models[name]
    players = cast(config)
    assert list(players.models) == ["chatterbox"]
    assert players.plays("chatterbox") == "stand-in"
    assert list(players.left_out) == ["qwen3.5-9b-fp8-uncensored"]


async def test_players_are_loaded_and_do_their_work(config: Config) -> None:
    models = config.settings.models
    players = Cast(models, {"chatterbox": "no sizes"}, {})
    kinds = {"gpt-oss-20b": TransformersChat, "chatterbox": StandIn}
    for name, kind in kinds.items():
        write_random(name, models[name], config.models_dir, tiny=True)
        runtime = await players.load(name, config, "cpu")
        assert isinstance(runtime, kind)
        await serve(runtime)
        await runtime.close()
    assert players.plays("gpt-oss-20b") == "transformers"


async def test_whoever_has_no_task_is_not_served() -> None:
    class Idle:
        async def close(self) -> None: ...

    with pytest.raises(TypeError, match="Idle"):
        await serve(Idle())
