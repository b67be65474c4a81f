import base64
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import numpy as np
import pytest

from llmux.config import Limits
from llmux.errors import InvalidRequest, LoadFailed
from providers.audio import CONTENT_TYPES, decode
from providers.runtime import Clip, Samples, SpeechRuntime
from providers.speech import DEFAULT_VOICES, SpeechProvider, choose_voice, parse

T = TypeVar("T")

ANNA = Clip("anna", "voices/anna.wav", "de")


class Hum:
    """A voice that hums for a tenth of a second at every word."""

    sample_rate = 24_000
    voices: Sequence[str] = ("heart",)
    clones = True

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.spoken = 0
        self.fails_after: int | None = None
        self.word_s = 0.1

    async def synthesize(
        self, text: str, *, voice: str | Clip, speed: float, options: Mapping[str, Any]
    ) -> AsyncGenerator[Samples, None]:
        self.asked = {"text": text, "voice": voice, "speed": speed, "options": dict(options)}
        for _ in text.split():
            if self.spoken == self.fails_after:
                raise LoadFailed("the voice broke")
            self.spoken += 1
            moments = np.arange(int(self.word_s * 24_000)) / 24_000
            yield (0.5 * np.sin(2 * np.pi * 220 * moments)).astype(np.float32)

    async def close(self) -> None: ...


class Lent:
    """Leases that only count."""

    def __init__(self, runtime: Hum) -> None:
        self.runtime = runtime
        self.leases = 0
        self.held = 0

    async def stream(
        self, physical: str, work: Callable[[SpeechRuntime], AsyncGenerator[T, None]]
    ) -> AsyncGenerator[T, None]:
        self.leases += 1
        self.held += 1
        try:
            async with aclosing(work(self.runtime)) as items:
                async for item in items:
                    yield item
        finally:
            self.held -= 1


@pytest.fixture
def lent() -> Lent:
    return Lent(Hum())


@pytest.fixture
def provider(lent: Lent) -> SpeechProvider:
    return SpeechProvider(lent, Limits(speech_characters=100), {"anna": ANNA})


@pytest.mark.parametrize("response_format", [name for name in CONTENT_TYPES if name != "pcm"])
async def test_speech_is_answered_in_the_format_asked_for(
    provider: SpeechProvider, lent: Lent, response_format: Any
) -> None:
    answer = await provider.speak("hum", {"input": "ten " * 10, "voice": "alloy", "response_format": response_format})
    sound = b"".join([chunk async for chunk in answer.chunks])

    assert answer.content_type == CONTENT_TYPES[response_format]
    assert len(decode(sound, 24_000, max_s=60)) == pytest.approx(24_000, rel=0.1)
    assert lent.held == 0


async def test_the_default_is_mp3_at_normal_speed(provider: SpeechProvider, lent: Lent) -> None:
    answer = await provider.speak("hum", {"input": "Hello", "voice": None, "speed": None, "response_format": None})
    await answer.chunks.aclose()

    assert answer.content_type == "audio/mpeg"
    assert lent.runtime.asked == {"text": "Hello", "voice": "default", "speed": 1.0, "options": {}}


async def test_the_first_sound_leaves_before_the_last_is_spoken(provider: SpeechProvider, lent: Lent) -> None:
    answer = await provider.speak("hum", {"input": "ten " * 10, "response_format": "wav"})
    await anext(answer.chunks)

    assert lent.runtime.spoken == 1
    await answer.chunks.aclose()


async def test_a_long_piece_leaves_in_bounded_chunks(provider: SpeechProvider, lent: Lent) -> None:
    lent.runtime.word_s = 10
    answer = await provider.speak("hum", {"input": "long", "response_format": "pcm"})
    chunks = [chunk async for chunk in answer.chunks]

    assert max(map(len, chunks)) <= 65_536
    assert sum(map(len, chunks)) == 10 * 24_000 * 2


async def test_who_stops_listening_gives_the_model_back(provider: SpeechProvider, lent: Lent) -> None:
    answer = await provider.speak("hum", {"input": "ten " * 10, "response_format": "pcm"})
    await anext(answer.chunks)
    await answer.chunks.aclose()

    assert lent.held == 0
    assert lent.runtime.spoken < 10


async def test_what_fails_before_the_first_sound_is_raised_with_its_status(
    provider: SpeechProvider, lent: Lent
) -> None:
    lent.runtime.fails_after = 0

    with pytest.raises(LoadFailed):
        await provider.speak("hum", {"input": "Hello"})
    assert lent.held == 0


async def test_what_fails_later_ends_the_sound_with_an_error(provider: SpeechProvider, lent: Lent) -> None:
    lent.runtime.fails_after = 1
    answer = await provider.speak("hum", {"input": "Hello there", "response_format": "wav"})

    with pytest.raises(LoadFailed):
        _ = [chunk async for chunk in answer.chunks]
    assert lent.held == 0


@pytest.mark.parametrize(
    ("wrong", "param", "says"),
    [
        ({"input": ""}, "input", "text to speak"),
        ({"input": " \n"}, "input", "text to speak"),
        ({"input": None}, "input", "text to speak"),
        ({"input": "x" * 101}, "input", "at most 100"),
        ({"response_format": "ogg"}, "response_format", "mp3, opus, aac, flac, wav, pcm"),
        ({"response_format": ["mp3"]}, "response_format", "mp3"),
        ({"speed": 0.2}, "speed", "0.25 to 4"),
        ({"speed": 4.1}, "speed", "0.25 to 4"),
        ({"speed": "fast"}, "speed", "0.25 to 4"),
        ({"speed": float("nan")}, "speed", "0.25 to 4"),
        ({"stream_format": "ndjson"}, "stream_format", "audio, sse"),
        ({"voice": {"id": "voice_1"}}, "voice", "a name"),
    ],
)
async def test_a_wrong_request_is_refused_before_a_model_is_asked_for(
    provider: SpeechProvider, lent: Lent, wrong: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        await provider.speak("hum", {"input": "Hello", **wrong})

    assert refused.value.param == param
    assert lent.leases == 0


async def test_an_unknown_voice_is_refused_with_those_there_are(provider: SpeechProvider, lent: Lent) -> None:
    with pytest.raises(InvalidRequest, match="default, anna, heart"):
        await provider.speak("hum", {"input": "Hello", "voice": "darth"})
    assert lent.held == 0


async def test_a_runtime_that_takes_over_no_voices_has_only_its_own(provider: SpeechProvider, lent: Lent) -> None:
    lent.runtime.clones = False
    with pytest.raises(InvalidRequest, match="default, heart"):
        await provider.speak("hum", {"input": "Hello", "voice": "anna"})


async def test_a_clip_is_handed_on(provider: SpeechProvider, lent: Lent) -> None:
    answer = await provider.speak("hum", {"input": "Hello", "voice": "Anna"})
    await answer.chunks.aclose()

    assert lent.runtime.asked["voice"] == ANNA


async def test_events_carry_the_sound_and_end_with_the_usage(provider: SpeechProvider) -> None:
    asked = {"input": "one two", "response_format": "flac", "stream_format": "sse"}
    answer = await provider.speak("hum", asked)
    frames = b"".join([chunk async for chunk in answer.chunks]).decode().split("\n\n")
    *deltas, done = [json.loads(frame.removeprefix("data: ")) for frame in frames if frame]

    assert answer.content_type == "text/event-stream"
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    sound = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
    assert len(decode(sound, 24_000, max_s=60)) == 4_800
    assert done == {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 7, "output_tokens": 0, "total_tokens": 7},
    }


async def test_who_leaves_events_gives_the_model_back(provider: SpeechProvider, lent: Lent) -> None:
    answer = await provider.speak("hum", {"input": "ten " * 10, "response_format": "pcm", "stream_format": "sse"})
    await anext(answer.chunks)
    await answer.chunks.aclose()

    assert lent.held == 0


@pytest.mark.parametrize("name", sorted(DEFAULT_VOICES))
def test_names_of_openai_stand_for_the_default_voice(name: str) -> None:
    assert choose_voice(name, ("heart",), {}) == "default"
    assert choose_voice(name.title(), ("heart",), {}) == "default"


def test_a_voice_of_its_own_wins_over_a_name_of_openai() -> None:
    assert choose_voice("nova", ("nova", "heart"), {}) == "nova"
    assert choose_voice("Heart", ("nova", "heart"), {}) == "heart"


@pytest.mark.parametrize("name", ["../anna", "/etc/passwd", "anna.wav", "anna/../anna", "..", "anna\x00"])
def test_no_name_is_a_path(name: str) -> None:
    with pytest.raises(InvalidRequest, match="there are default, anna"):
        choose_voice(name, (), {"anna": ANNA})


def test_what_only_some_runtimes_know_is_handed_on() -> None:
    given = {"seed": 0, "language": "de", "exaggeration": 0.5, "cfg_weight": 0, "temperature": 0.8}

    assert parse({"input": "Hello", "user": "x", **given}, longest=10).options == given
    assert parse({"input": "Hello", "seed": None, "language": ""}, longest=10).options == {}


def test_numbers_may_come_as_text() -> None:
    assert parse({"input": "Hello", "speed": "1.5"}, longest=10).speed == 1.5
