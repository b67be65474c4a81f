"""Who plays each model: llmux's own runtime where it can on this machine, else a stand-in on the same weights."""

import asyncio
import importlib
import importlib.util
import multiprocessing
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.shipped import write_random
from bench.stand_in import StandIn
from llmux.config import Config, Model
from llmux.weights import needed_files
from providers.loading import MODULES, Loading
from providers.runtime import ChatRuntime, Runtime, Sampling, TranscriptionRuntime

PROMPT_TOKENS = 1024
ANSWER_TOKENS = 8
RECORDING_S = 10
"""What each model is given to do, every time: its working memory depends on it."""


@dataclass(frozen=True, slots=True)
class Cast:
    """stand_ins, left_out: why, by model."""

    models: Mapping[str, Model]
    stand_ins: Mapping[str, str]
    left_out: Mapping[str, str]

    def plays(self, model: str) -> str:
        """Who plays it: a runtime's name, or "stand-in"."""
        return "stand-in" if model in self.stand_ins else self.models[model].runtime

    async def load(self, model: str, config: Config, device: str) -> Runtime:
        """Raises what the runtime raises, or torch."""
        if model not in self.stand_ins:
            return await Loading(config).load(model)
        runtime = StandIn(model)
        files = {(config.models_dir / path).resolve() for path in needed_files(self.models[model], config.models_dir)}
        try:
            await runtime.open(sorted(path for path in files if path.suffix == ".safetensors"), device)
        except BaseException:
            await runtime.close()
            raise
        return runtime


async def serve(runtime: Runtime) -> None:
    """Have it do its task once: a prompt of PROMPT_TOKENS, or a recording of RECORDING_S seconds of noise."""
    if isinstance(runtime, StandIn):
        await runtime.compute()
    elif isinstance(runtime, ChatRuntime):
        async for _ in runtime.generate("x" * PROMPT_TOKENS, Sampling(max_tokens=ANSWER_TOKENS, temperature=0)):
            pass
    elif isinstance(runtime, TranscriptionRuntime):
        samples = np.random.default_rng(0).normal(scale=0.1, size=RECORDING_S * runtime.sample_rate)
        async for _ in runtime.transcribe(samples.astype(np.float32), language="en", prompt=None, temperature=0.0):
            pass
    else:
        raise TypeError(f"nothing is known to ask of a {type(runtime).__name__}")


def cast(config: Config) -> Cast:
    """Rehearse each model on a few thousand random numbers, in a process of its own: what happens there, a crash too,
    leaves no trace on the device. A GGUF has no stand-in.
    """
    stand_ins: dict[str, str] = {}
    left_out: dict[str, str] = {}
    models = config.settings.models
    for name, model in models.items():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            try:
                why = alone.submit(why_not, name, config).result()
            except BrokenProcessPool:
                why = "it crashes in a rehearsal"
        if why is not None:
            (left_out if model.runtime == "llama.cpp" else stand_ins)[name] = why
    return Cast({name: model for name, model in models.items() if name not in left_out}, stand_ins, left_out)


def why_not(name: str, config: Config) -> str | None:
    """Why llmux's own runtime cannot play it here; None when it can."""
    model = config.settings.models[name]
    missing = _missing(name, model)
    if missing is not None:
        return missing
    with tempfile.TemporaryDirectory() as folder:
        try:
            write_random(name, model, Path(folder), tiny=True)
            elsewhere = config.settings.model_copy(update={"models_dir": Path(folder)})
            asyncio.run(_rehearse(name, replace(config, settings=elsewhere)))
        except Exception as error:  # whatever it is that stands in the way
            return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return None


async def _rehearse(name: str, config: Config) -> None:
    loading = Loading(config)
    runtime = await loading.load(name)
    try:
        await serve(runtime)
    finally:
        await loading.unload(name, runtime)


def _missing(name: str, model: Model) -> str | None:
    if (model.task, model.runtime) not in MODULES:
        return f"llmux has no runtime {model.runtime} yet"
    if model.runtime == "chatterbox":
        return "the sizes of its classes cannot be chosen"
    if model.runtime == "llama.cpp":
        try:
            llama = importlib.import_module("llama_cpp")
        except (ImportError, OSError, RuntimeError):
            return "llama-cpp-python is not installed"
        return None if llama.llama_supports_gpu_offload() else "llama.cpp is built without CUDA"
    if name.startswith(("gpt-oss", "qwen3.5-9b")) and importlib.util.find_spec("kernels") is None:
        return "the kernels package is not installed: FP8 does not compute, and MXFP4 grows to bfloat16"
    return None
