from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.performance import SAMPLING, Timing, compared, spoken, timed
from providers.runtime import Piece, Sampling, Segment


@pytest.mark.parametrize(("cpu_s", "passes"), [(5.0, True), (4.99, False), (50.0, True), (0.5, False)])
def test_a_gpu_passes_from_five_times_the_cpu_on(cpu_s: float, passes: bool) -> None:
    report = compared("qwen", 1.0, cpu_s)
    assert report == {"model": "qwen", "gpu_seconds": 1.0, "cpu_seconds": cpu_s, "speedup": cpu_s, "pass": passes}


@pytest.mark.parametrize(("seconds", "passes"), [(1.0, True), (2.0, False), (4.0, False)])
def test_a_voice_passes_if_it_speaks_faster_than_one_listens(seconds: float, passes: bool) -> None:
    assert spoken("voice", Timing(seconds, 2.0)) == {
        "model": "voice",
        "synthesis_seconds": seconds,
        "audio_duration_seconds": 2.0,
        "realtime_factor": 2.0 / seconds,
        "pass": passes,
    }


@given(gpu_s=st.floats(1e-3, 1e3), cpu_s=st.floats(1e-3, 1e4))
def test_the_verdict_is_of_what_was_measured_and_not_of_what_was_rounded(gpu_s: float, cpu_s: float) -> None:
    assert compared("m", gpu_s, cpu_s)["pass"] is (cpu_s / gpu_s >= 5)


class Chat:
    """Notes what it is asked."""

    chat_template = ""
    special_tokens: Mapping[str, str] = {}
    control_tokens: Sequence[str] = ()
    image_token = None
    context = 100

    def __init__(self) -> None:
        self.asked: list[Sampling] = []

    async def generate(
        self, prompt: str, sampling: Sampling, images: Sequence[Any] = ()
    ) -> AsyncGenerator[Piece, None]:
        self.asked.append(sampling)
        yield Piece("four", 1, 9, "length")

    async def close(self) -> None:
        pass


class Ears:
    sample_rate = 16_000
    languages: Sequence[str] = ("en",)
    tells_words = False

    def __init__(self) -> None:
        self.heard_s: list[float] = []

    async def transcribe(self, samples: Any, **_: Any) -> AsyncGenerator[Segment, None]:
        self.heard_s.append(len(samples) / self.sample_rate)
        assert np.abs(samples).max() > 0.05
        yield Segment(0, 1, "On Monday", "en")

    async def close(self) -> None:
        pass


class Voice:
    sample_rate = 1000
    voices: Sequence[str] = ()
    clones = False

    async def synthesize(self, text: str, **_: Any) -> AsyncGenerator[Any, None]:
        for _part in range(2):
            yield np.zeros(500, dtype=np.float32)

    async def close(self) -> None:
        pass


async def test_a_language_model_writes_sixteen_tokens_twice_and_the_second_time_counts() -> None:
    chat = Chat()
    timing = await timed("llm", chat)
    assert chat.asked == [SAMPLING, SAMPLING]
    assert SAMPLING.max_tokens == 16
    assert timing.seconds > 0


async def test_a_voice_is_timed_with_what_it_spoke() -> None:
    assert (await timed("tts", Voice())).audio_seconds == 1.0


async def test_ears_hear_real_speech_at_their_own_rate() -> None:
    ears = Ears()
    await timed("asr", ears)
    assert len(ears.heard_s) == 2
    assert 2 < ears.heard_s[0] < 10
