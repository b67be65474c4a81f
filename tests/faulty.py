"""The gateway with a chat runtime that fails on purpose: `python -m tests.faulty serve ...`, as of `python -m llmux`.

A prompt with one of the words below makes the model fail in that way, on a thread where native code runs; one with
"begin" too lets it say something first. A GGUF named hangs.gguf never loads. All else is llama.cpp's.
"""

import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from llmux.litellm_settings import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # before anything imports LiteLLM

from llama_cpp._ggml import libggml

from llmux.cli import main
from llmux.config import Model
from providers import llamacpp, loading
from providers.runtime import Image, Piece, Sampling
from providers.worker import Cancelled, Worker


def run_out() -> NoReturn:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 16 GiB")


def trip_an_assert() -> NoReturn:
    import torch

    raise torch.AcceleratorError(
        "CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in https://..."
    )


def abort() -> None:
    """As ggml's CUDA_CHECK does."""
    libggml.ggml_abort(b"/build/llama.cpp/ggml/src/ggml-cuda/ggml-cuda.cu", 98, b"CUDA error")


FAULTS: Mapping[str, Callable[[], None]] = {"exhaust": run_out, "assert": trip_an_assert, "abort": abort}


class Faulty:
    """A ChatRuntime that fails when it is asked to."""

    def __init__(self, real: llamacpp.LlamaCpp, name: str) -> None:
        self._real = real
        self._worker = Worker(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def generate(self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()) -> AsyncGenerator[Piece, None]:
        fault = next((fault for word, fault in FAULTS.items() if word in prompt), None)
        if fault is None:
            return self._real.generate(prompt, sampling, images)

        def fail(_: Cancelled) -> Iterator[Piece]:
            if "begin" in prompt:
                yield Piece("Well, ", 2, 9)
            fault()

        return self._worker.stream(fail)

    async def close(self) -> None:
        await self._worker.close()
        await self._real.close()


async def load(model: Model, folder: Path) -> Faulty:
    """As providers.llamacpp.load."""
    assert model.file is not None
    if model.file == "hangs.gguf":
        await Worker("hangs").run(lambda _: threading.Event().wait())
    return Faulty(await llamacpp.load(model, folder), model.file)


if __name__ == "__main__":
    assert isinstance(loading.MODULES, dict)
    loading.MODULES["llm", "llama.cpp"] = "tests.faulty"
    main()
