"""A device that is full, from real runtimes up to the arbiter: who makes room, who is refused, who is served next."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from llama_cpp import llama_cpp

from llmux.errors import InsufficientVram, LoadFailed
from providers import llama_log, llamacpp, transformers_asr, transformers_chat
from providers.hibari import HibariSpeech
from providers.leased import Leased
from providers.runtime import ChatRuntime, Piece, Sampling
from providers.worker import Worker
from tests import checkpoints
from tests.gateway import ROOT
from tests.providers.test_transformers_chat import model
from vram.arbiter import Arbiter
from vram.device import Reading
from vram.ledger import Ledger
from vram.model import ModelSpec

BRIEF = Sampling(max_tokens=2, temperature=0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    checkpoints.write_plain(folder)
    return folder


def absurd(*_: Any, **__: Any) -> Any:
    return torch.empty(1 << 60)


def exhausted(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 16 GiB")


def uncreated(*_: Any, **__: Any) -> Any:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


FAILURES = [absurd, exhausted, uncreated]


# What leaves the runtimes


@pytest.mark.parametrize(
    ("name", "spare_mb", "context"),
    [("smollm2", 70, 2048), ("smollm2", 140, 8192), ("whisper", 150, 2048)],
    ids=["llama.cpp's weights", "llama.cpp's context", "transformers' weights"],
)
def test_a_load_in_a_process_without_memory_is_a_memory_error(
    name: str, spare_mb: int, context: int, demo_models: Path
) -> None:
    command = [sys.executable, "-m", "tests.starved", name, str(spare_mb), str(demo_models), str(context)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    starved = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert starved.stdout.startswith("MemoryError: "), starved.stdout + starved.stderr


@pytest.mark.parametrize("fails", FAILURES)
async def test_transformers_chat_loads_or_is_out_of_memory(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., Any]
) -> None:
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fails)
    with pytest.raises(MemoryError):
        await transformers_chat.load(model(), tiny)


@pytest.mark.parametrize("fails", FAILURES)
async def test_transformers_chat_answers_or_is_out_of_memory(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., Any]
) -> None:
    runtime = await transformers_chat.load(model(), tiny)
    with monkeypatch.context() as patched:
        patched.setattr(transformers.LlamaForCausalLM, "forward", fails)
        with pytest.raises(MemoryError):
            await anext(runtime.generate("hello", BRIEF))
    assert [piece async for piece in runtime.generate("hello", BRIEF)]
    await runtime.close()


@pytest.mark.parametrize("fails", FAILURES)
async def test_transcription_loads_or_is_out_of_memory(
    demo_models: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., Any]
) -> None:
    monkeypatch.setattr(transformers.WhisperForConditionalGeneration, "from_pretrained", fails)
    with pytest.raises(MemoryError):
        await transformers_asr.load(model(task="asr"), demo_models / "whisper-base")


async def test_transcription_answers_or_is_out_of_memory(demo_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = await transformers_asr.load(model(task="asr"), demo_models / "whisper-base")
    monkeypatch.setattr(transformers.WhisperForConditionalGeneration, "get_encoder", exhausted)
    with pytest.raises(MemoryError):
        await anext(runtime.transcribe(np.zeros(16_000, np.float32), language="en", prompt=None, temperature=0))
    await runtime.close()


async def test_speech_is_made_or_out_of_memory() -> None:
    class Voice:
        sample_rate = 22_050
        phonemize = staticmethod(exhausted)

    runtime = HibariSpeech(Worker("voice"), {"one": Voice()}, "one")
    with pytest.raises(MemoryError):
        await anext(runtime.synthesize("hello", voice="one", speed=1, options={}))
    await runtime.close()


async def test_llama_cpp_answers_or_is_out_of_memory(demo_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama_decode answers -2 and says why in its log, here as it does it on a GPU."""
    real = llama_cpp.llama_decode

    def decode(*_: Any) -> int:
        llama_log._log(llama_log._ERROR, b"cudaMalloc failed: out of memory\n", None)
        return -2

    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    runtime = await llamacpp.load(
        model(runtime="llama.cpp", weights="smollm2-135m", file=file), demo_models / "smollm2-135m"
    )
    monkeypatch.setattr(llama_cpp, "llama_decode", decode)
    with pytest.raises(MemoryError, match="cudaMalloc failed"):
        await anext(runtime.generate("hello", BRIEF))
    monkeypatch.setattr(llama_cpp, "llama_decode", real)
    assert [piece async for piece in runtime.generate("hello", BRIEF)]
    await runtime.close()


async def test_a_prompt_that_names_the_words_harms_nobody(tiny: Path) -> None:
    runtime = await transformers_chat.load(model(), tiny)
    assert [piece async for piece in runtime.generate("CUDA out of memory", BRIEF)]
    await runtime.close()


# What the arbiter makes of it


@dataclass
class Card:
    """A device of 100 bytes that shows what its models hold."""

    budget_bytes: int = 100
    name: str = "card"
    held: dict[str, int] = field(default_factory=dict)

    def read(self) -> Reading:
        used = sum(self.held.values())
        return Reading(total_bytes=100, used_bytes=used, own_bytes=used)


class Loader:
    """Loads the real runtime, over and over the same tiny model. fails: how often a model's load runs out of memory"""

    def __init__(self, card: Card, folder: Path) -> None:
        self.fails: dict[str, int] = {}
        self.log: list[str] = []
        self._card = card
        self._folder = folder

    async def load(self, name: str) -> ChatRuntime:
        self.log.append(f"load {name}")
        with pytest.MonkeyPatch.context() as patched:
            if self.fails.get(name, 0):
                self.fails[name] -= 1
                patched.setattr(transformers.AutoModelForCausalLM, "from_pretrained", exhausted)
            runtime = await transformers_chat.load(model(), self._folder)
        self._card.held[name] = 40
        return runtime

    async def unload(self, name: str, runtime: ChatRuntime) -> None:
        self.log.append(f"unload {name}")
        await runtime.close()
        del self._card.held[name]


@dataclass
class House:
    arbiter: Arbiter[ChatRuntime]
    loader: Loader
    leased: Leased

    async def ask(self, name: str) -> str:
        async def work(runtime: ChatRuntime) -> AsyncGenerator[Piece, None]:
            async for piece in runtime.generate("hello", BRIEF):
                yield piece

        return "".join([piece.text async for piece in self.leased.stream(name, work)])

    def state(self, name: str) -> Any:
        return next(each for each in self.arbiter.snapshot().models if each.id == name)


@pytest.fixture
async def house(tiny: Path, tmp_path: Path) -> AsyncIterator[House]:
    card = Card()
    loader = Loader(card, tiny)
    arbiter = Arbiter(
        {name: ModelSpec(name, "llm", 40) for name in ("one", "other")},
        card,
        Ledger(tmp_path / "ledger.json", card.name),
        loader,
        max_wait_s={"llm": 20, "asr": 1, "tts": 2},
        queue_per_model=4,
        queue_total=8,
        load_s=60,
    )
    await arbiter.start()
    yield House(arbiter, loader, Leased(arbiter, request_s=60))
    await arbiter.stop(5)


async def test_a_load_without_memory_evicts_what_is_idle_and_succeeds_the_second_time(house: House) -> None:
    await house.ask("other")
    house.loader.fails["one"] = 1
    assert await house.ask("one")
    assert house.loader.log == ["load other", "load one", "unload other", "load one"]


async def test_a_load_without_memory_twice_is_a_503_and_others_are_served_on(house: House) -> None:
    await house.ask("other")
    house.arbiter.pin("other", True)
    house.loader.fails["one"] = 2
    with pytest.raises(LoadFailed, match="the GPU has no memory left for one") as refused:
        await house.ask("one")
    assert (refused.value.status_code, set(refused.value.response_headers())) == (503, {"Retry-After"})
    assert await house.ask("other")
    house.arbiter.pin("other", False)
    assert await house.ask("one")
    assert house.loader.log[-2:] == ["unload other", "load one"]


async def test_a_model_that_had_the_whole_device_twice_can_never_fit(house: House) -> None:
    house.loader.fails["one"] = 2
    with pytest.raises(InsufficientVram):
        await house.ask("one")
    assert await house.ask("other")


async def test_a_request_without_memory_is_a_503_and_its_model_is_loaded_afresh_with_more_room(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.ask("one")
    with monkeypatch.context() as patched:
        patched.setattr(transformers.LlamaForCausalLM, "forward", exhausted)
        with pytest.raises(LoadFailed) as refused:
            await house.ask("one")
    assert refused.value.status_code == 503
    assert house.state("one").phase in ("unloading", "absent")
    assert house.state("one").measured_bytes > 40
    assert await house.ask("one")
    assert house.loader.log == ["load one", "unload one", "load one"]
