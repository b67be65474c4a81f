"""How fast a model is, loading excluded, and whether that passes: GPU against CPU, or speech against the clock."""

import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmux.config import Model, Task
from providers.audio import resample
from providers.runtime import ChatRuntime, Runtime, Samples, Sampling, SpeechRuntime, TranscriptionRuntime

PASSING_SPEEDUP = 5.0
"""From here on a language model, or one that recognises speech, passes."""

PASSING_REALTIME_FACTOR = 1.0
"""Above this a voice passes: it speaks faster than one listens."""

SENTENCE = "On Monday the train leaves London at noon, and in the evening it is back."
PROMPT = "Count from one to one hundred in words: one, two, three,"
SAMPLING = Sampling(max_tokens=16, temperature=0)
"""Short, greedy, and so the same wherever it is computed."""


@dataclass(frozen=True, slots=True)
class Timing:
    """seconds: the work took; audio_seconds: how long what was spoken sounds"""

    seconds: float
    audio_seconds: float = 0.0


def compared(model: str, gpu_s: float, cpu_s: float) -> dict[str, Any]:
    """The report on a language model, or one that recognises speech."""
    speedup = cpu_s / gpu_s
    return {
        "model": model,
        "gpu_seconds": round(gpu_s, 3),
        "cpu_seconds": round(cpu_s, 3),
        "speedup": round(speedup, 2),
        "pass": speedup >= PASSING_SPEEDUP,
    }


def spoken(model: str, timing: Timing) -> dict[str, Any]:
    """The report on a voice."""
    factor = timing.audio_seconds / timing.seconds
    return {
        "model": model,
        "synthesis_seconds": round(timing.seconds, 3),
        "audio_duration_seconds": round(timing.audio_seconds, 3),
        "realtime_factor": round(factor, 2),
        "pass": factor > PASSING_REALTIME_FACTOR,
    }


async def timed(task: Task, runtime: Runtime) -> Timing:
    """One round of the task, after one that is not timed: the first compiles kernels and fills caches."""
    recording = await _recording(runtime.sample_rate) if isinstance(runtime, TranscriptionRuntime) else None
    await _round(task, runtime, recording)
    begun_s = time.perf_counter()
    audio_s = await _round(task, runtime, recording)
    return Timing(time.perf_counter() - begun_s, audio_s)


async def _round(task: Task, runtime: Any, recording: Samples | None) -> float:
    """Seconds of sound that came of it, if any."""
    match task:
        case "llm":
            assert isinstance(runtime, ChatRuntime)
            async with aclosing(runtime.generate(PROMPT, SAMPLING)) as pieces:
                async for _ in pieces:
                    pass
        case "asr":
            assert isinstance(runtime, TranscriptionRuntime)
            assert recording is not None
            heard = runtime.transcribe(recording, language="en", prompt=None, temperature=0)
            async with aclosing(heard) as segments:
                async for _ in segments:
                    pass
        case "tts":
            assert isinstance(runtime, SpeechRuntime)
            sound = runtime.synthesize(SENTENCE, voice="default", speed=1.0, options={})
            async with aclosing(sound) as parts:
                return sum([len(part) / runtime.sample_rate async for part in parts])
    return 0.0


async def _recording(sample_rate: int) -> Samples:
    """Speech to recognise, spoken by the small voice that is part of every installation."""
    import numpy as np

    from providers import hibari

    voice = await hibari.load(Model.model_validate({"task": "tts", "runtime": "hibari", "estimate": "1 MB"}), Path())
    try:
        sound = voice.synthesize(SENTENCE, voice="default", speed=1.0, options={"seed": 1})
        parts = [part async for part in sound]
    finally:
        await voice.close()
    return resample(np.concatenate(parts), voice.sample_rate, sample_rate)
