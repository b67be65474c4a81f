import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hibari import Hibari
from hypothesis import given
from hypothesis import strategies as st

from llmux.config import Model
from llmux.errors import InvalidRequest
from providers.hibari import HibariSpeech, breaths, load, voices
from providers.runtime import Samples, SpeechRuntime

MODEL = Model.model_validate({"task": "tts", "runtime": "hibari", "estimate": "100 MB"})
SENTENCE = "The meeting in London has been moved to Monday morning."


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HibariSpeech]:
    runtime = asyncio.run(load(MODEL, tmp_path_factory.mktemp("empty")))
    yield runtime
    asyncio.run(runtime.close())


async def pieces(speech: HibariSpeech, text: str, *, voice: str = "default", speed: float = 1.0, **options: Any) -> Any:
    return [piece async for piece in speech.synthesize(text, voice=voice, speed=speed, options=options)]


async def spoken(speech: HibariSpeech, text: str, **how: Any) -> Samples:
    return np.concatenate(await pieces(speech, text, **how))


def test_it_is_a_speech_runtime_at_24_khz(speech: HibariSpeech) -> None:
    assert isinstance(speech, SpeechRuntime)
    assert speech.sample_rate == 24_000


def test_only_voices_that_are_there_are_offered(speech: HibariSpeech) -> None:
    assert "heart" in speech.voices


async def test_a_sentence_is_heard(speech: HibariSpeech) -> None:
    samples = await spoken(speech, SENTENCE)

    assert samples.dtype == np.float32
    assert 2 < len(samples) / 24_000 < 6
    assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5


async def test_the_first_sentence_comes_alone(speech: HibariSpeech) -> None:
    first, second = await pieces(speech, f"{SENTENCE} {SENTENCE}\n\nDr. Smith agrees.")

    assert len(second) > len(first)


async def test_equal_seeds_sound_equal(speech: HibariSpeech) -> None:
    first, second, other = [await spoken(speech, SENTENCE, seed=seed) for seed in (1, 1, 2)]

    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", [-1, "1", 0.5])
async def test_a_seed_that_is_none_is_refused(speech: HibariSpeech, seed: object) -> None:
    with pytest.raises(InvalidRequest, match="seed"):
        await spoken(speech, SENTENCE, seed=seed)


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 3.0, 4.0])
async def test_speed_is_what_it_says(speech: HibariSpeech, speed: float) -> None:
    normal = len(await spoken(speech, SENTENCE))

    assert len(await spoken(speech, SENTENCE, speed=speed)) == pytest.approx(normal / speed, rel=0.1)


@pytest.mark.parametrize("options", [{"language": "de"}, {"exaggeration": 0.5}])
async def test_what_it_does_not_know_is_refused(speech: HibariSpeech, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await spoken(speech, SENTENCE, **options)
    assert refused.value.param in options


async def test_english_may_be_asked_for(speech: HibariSpeech) -> None:
    assert len(await spoken(speech, SENTENCE, language="en-GB"))


def test_its_voices_are_known_before_it_is_loaded() -> None:
    assert "heart" in voices({})


@pytest.mark.parametrize("text", ["😀 😀", "你好", "\x00", "\n"])
async def test_what_cannot_be_pronounced_is_a_short_silence(speech: HibariSpeech, text: str) -> None:
    [silence] = await pieces(speech, text)

    assert len(silence) == 4_800
    assert not silence.any()


@pytest.mark.parametrize("number", ["7" * 400, "$" + "7" * 50, "٣" * 40, "7,777" * 20 + "%", "7" * 40 + "th"])
async def test_a_number_beyond_all_words_is_said_digit_by_digit(speech: HibariSpeech, number: str) -> None:
    assert len(await spoken(speech, number)) > 5 * 24_000


async def test_a_long_sentence_without_a_comma_is_spoken_in_parts(speech: HibariSpeech) -> None:
    parts = await pieces(speech, "alpha beta gamma delta " * 40)

    assert len(parts) > 3
    assert max(len(part) for part in parts) / 24_000 < 30


async def test_hanging_up_stops_after_the_sentence(speech: HibariSpeech, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []
    hung_up, speaking = threading.Event(), asyncio.Event()
    loop, from_ids = asyncio.get_running_loop(), Hibari.from_ids

    def slow(self: Hibari, *arguments: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 2:
            loop.call_soon_threadsafe(speaking.set)
            assert hung_up.wait(timeout=60)
        return from_ids(self, *arguments)

    monkeypatch.setattr(Hibari, "from_ids", slow)
    sound = speech.synthesize(f"{SENTENCE} " * 10, voice="heart", speed=1.0, options={})
    await anext(sound)
    await speaking.wait()
    loop.call_soon(hung_up.set)  # after the flag, which aclose() sets at once
    await sound.aclose()

    assert len(begun) == 2


@given(st.text(alphabet="ab ", max_size=200), st.integers(1, 30))
def test_breaths_lose_nothing_and_are_short(phonemes: str, longest: int) -> None:
    parts = list(breaths(phonemes, longest))

    assert all(0 < len(part) <= longest for part in parts)
    assert "".join(parts).replace(" ", "") == phonemes.replace(" ", "")


def test_breaths_are_taken_between_words() -> None:
    assert list(breaths("one two three", 8)) == ["one two", "three"]
