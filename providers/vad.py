"""Voice activity: how likely it is that somebody speaks, every 32 ms.

Silero VAD 6 (https://github.com/snakers4/silero-vad), its network for 16 kHz that takes a sequence of frames at once.
The model is read out of the installed package, which is never imported: that would set torch to one thread for the
whole process. It runs on the CPU, one thread, at several hundred times real time, and holds 2 MB.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from providers.runtime import Samples

SAMPLE_RATE = 16_000

FRAME = 512
"""Samples that one probability is about."""

_CONTEXT = 64
"""Samples before a frame that the network looks back on."""

Probabilities = npt.NDArray[np.float32]
"""One for each frame, shape (frames,)."""


class VoiceActivity:
    """One recording, heard from its beginning to its end."""

    def __init__(self) -> None:
        self._network = _network()
        self._hidden = self._cell = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)

    def hear(self, samples: Samples) -> Probabilities:
        """Of the next whole frames, at 16 kHz: shape (frames * FRAME,)."""
        frames = samples.reshape(-1, FRAME)
        contexts = np.vstack([self._context, frames[:-1, -_CONTEXT:]])
        self._context = frames[-1, -_CONTEXT:].copy()
        probabilities, self._hidden, self._cell = self._network.run(
            ["speech_probs", "hn", "cn"],
            {"input": np.hstack([contexts, frames]), "h": self._hidden, "c": self._cell},
        )
        flat: Probabilities = probabilities.reshape(-1)
        return flat


@cache
def _network() -> Any:
    import onnxruntime

    package = find_spec("silero_vad")
    assert package is not None, "the package silero-vad is missing; run: make setup"
    assert package.origin is not None
    model = Path(package.origin).with_name("data") / "silero_vad_16k_sequence.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
