"""The threads of a tiny Qwen3.5 on the processor, as the kernel tells of them."""

import os
from pathlib import Path

import llama_cpp.llama_cpp as llama
import pytest

from llmux.config import Model
from providers import llamacpp
from providers.runtime import Sampling
from tests import checkpoints


def threads() -> set[int]:
    return {int(each.name) for each in Path("/proc/self/task").iterdir()}


async def cores_of_new_threads(folder: Path) -> list[set[int]]:
    """Of those that an answer was computed by, the model's own first."""
    checkpoints.write_qwen(folder, vision=False)
    checkpoints.write_qwen_gguf(folder, folder / "model.gguf")
    entry = {"task": "llm", "runtime": "llama.cpp", "weights": "w", "file": "model.gguf", "estimate": "1 GB"}
    before = threads()
    runtime = await llamacpp.load(Model.model_validate({**entry, "context": 256}), folder)
    try:
        async for _ in runtime.generate("Hello", Sampling(max_tokens=2, temperature=0)):
            pass
        return [os.sched_getaffinity(thread) for thread in sorted(threads() - before)]
    finally:
        await runtime.close()


async def test_each_core_has_a_thread_that_stays_there(tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    assert sorted(map(tuple, await cores_of_new_threads(tmp_path))) == [(core,) for core in sorted(cores)]
    assert os.sched_getaffinity(0) == cores, "the event loop goes where there is room"


async def test_with_a_gpu_no_thread_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "llama_supports_gpu_offload", lambda: True)
    cores = os.sched_getaffinity(0)
    assert all(each == cores for each in await cores_of_new_threads(tmp_path))
