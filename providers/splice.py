"""What is done to a piece of speech so that the next can follow it: tempo, edges, and the pause between them."""

from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from providers.runtime import Samples

PAUSE_S = 0.12
"""Between two pieces, at normal speed."""

_FADE_S = 0.005
"""At both edges: a sound that does not begin or end at zero clicks."""

_STEEPEST = 2.0
"""Beyond this, ffmpeg's atempo leaves samples out instead of blending them: it is applied twice."""


def silence(rate: int) -> Samples:
    """What a text without anything to pronounce sounds like."""
    return np.zeros(int(0.2 * rate), dtype=np.float32)


def spliceable(samples: Samples, rate: int, *, pause_s: float) -> Samples:
    """A piece with its edges faded and a pause before it."""
    samples = np.nan_to_num(samples)
    fade = min(int(_FADE_S * rate), len(samples) // 2)
    slope = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    samples[:fade] *= slope
    samples[len(samples) - fade :] *= slope[::-1]
    return np.concatenate([np.zeros(int(pause_s * rate), dtype=np.float32), samples])


def stretched(samples: Samples, rate: int, speed: float) -> Samples:
    """The same sound `speed` times as fast, at the same pitch: WSOLA, as ffmpeg's atempo does it."""
    if speed == 1.0 or not len(samples):
        return samples
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="flt", layout="mono")
    frame.sample_rate = rate
    frame.pts = 0
    graph = av.filter.Graph()
    tempos = [graph.add("atempo", f"{tempo:.6f}") for tempo in steps(speed)]
    chain = [graph.add_abuffer(format="flt", sample_rate=rate, layout="mono"), *tempos, graph.add("abuffersink")]
    graph.link_nodes(*chain).configure()
    graph.push(frame)
    graph.push(None)
    parts = list(_pulled(graph))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def steps(speed: float) -> Iterator[float]:
    """Tempos of at most a factor of two that make up `speed`."""
    while not 1 / _STEEPEST <= speed <= _STEEPEST:
        step = _STEEPEST if speed > 1 else 1 / _STEEPEST
        yield step
        speed /= step
    yield speed


def _pulled(graph: Any) -> Iterator[Samples]:
    while True:
        try:
            yield graph.pull().to_ndarray()[0]
        except (av.BlockingIOError, av.EOFError):
            return
