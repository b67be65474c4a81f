import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.config import Model
from llmux.errors import InvalidRequest, LoadFailed
from providers.audio import resample
from providers.runtime import Samples, Segment, TranscriptionRuntime
from providers.transformers_asr import TransformersTranscription, load, repetition, split_at_timestamps
from tests import checkpoints

MEETING = "The meeting in London has been moved to Monday morning."


def model(default_language: str | None = None) -> Model:
    return Model.model_validate(
        {
            "task": "asr",
            "runtime": "transformers",
            "weights": "ear",
            "estimate": "1 GB",
            "default_language": default_language,
        }
    )


async def heard(
    runtime: TransformersTranscription,
    samples: Samples,
    *,
    language: str | None = None,
    prompt: str | None = None,
    temperature: float = 0.0,
) -> list[Segment]:
    return [
        segment
        async for segment in runtime.transcribe(samples, language=language, prompt=prompt, temperature=temperature)
    ]


class Steps:
    """Counts a model's decoding steps, and holds it in the third until told to go on.

    reached: set when the model is being held
    """

    def __init__(self) -> None:
        self.taken = 0
        self.reached = asyncio.Event()
        self.go_on = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, module: Any, arguments: Any) -> None:
        if not type(module).__name__.endswith("AsrDecoder") and type(module).__name__ != "WhisperDecoder":
            return
        self.taken += 1
        if self.taken == 3:
            self._loop.call_soon_threadsafe(self.reached.set)
            assert self.go_on.wait(timeout=60)


@pytest.fixture
async def steps() -> AsyncGenerator[Steps, None]:
    from torch.nn.modules.module import register_module_forward_pre_hook

    steps = Steps()
    handle = register_module_forward_pre_hook(steps)
    yield steps
    handle.remove()


async def hang_up_while_decoding(runtime: TransformersTranscription, samples: Samples, steps: Steps) -> None:
    """Returns once the runtime says that it has stopped."""
    listening = asyncio.create_task(heard(runtime, samples, language="en"))
    await steps.reached.wait()
    listening.cancel()
    asyncio.get_running_loop().call_soon(steps.go_on.set)  # after the cancellation, which is queued before it
    with pytest.raises(asyncio.CancelledError):
        await listening


# Whisper: a real model.


@pytest.fixture(scope="module")
def whisper(demo_models: Path) -> Iterator[TransformersTranscription]:
    runtime = asyncio.run(load(model(), demo_models / "whisper-base"))
    yield runtime
    asyncio.run(runtime.close())


@pytest.fixture(scope="module")
def say() -> Any:
    from hibari import Hibari

    voice = Hibari()
    return lambda text: resample(voice(text, seed=1), 24_000, 16_000)


def test_whisper_is_a_transcription_runtime(whisper: TransformersTranscription) -> None:
    assert isinstance(whisper, TranscriptionRuntime)
    assert whisper.sample_rate == 16_000
    assert {"en", "de", "ja"} <= set(whisper.languages)


async def test_spoken_words_come_back(whisper: TransformersTranscription, say: Any) -> None:
    samples = say(MEETING)
    [segment] = await heard(whisper, samples)

    assert "London" in segment.text
    assert "Monday" in segment.text
    assert segment.language == "en"
    assert 0 <= segment.start_s < segment.end_s <= len(samples) / 16_000


async def test_a_prompt_spells_a_name(whisper: TransformersTranscription, say: Any) -> None:
    samples = say("I gave the letter to Catherine on Monday.")
    [plain] = await heard(whisper, samples, language="en")
    [prompted] = await heard(whisper, samples, language="en", prompt="Letters to Kathryn <|endoftext|> and Kathryn.")

    assert "Kathryn" not in plain.text
    assert "Kathryn" in prompted.text


async def test_a_temperature_and_a_language_are_taken(whisper: TransformersTranscription, say: Any) -> None:
    segments = await heard(whisper, say(MEETING), language="en", temperature=0.2)

    assert "London" in "".join(segment.text for segment in segments)


async def test_a_recording_longer_than_one_window_is_heard_whole(whisper: TransformersTranscription, say: Any) -> None:
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    samples = say(
        "On Monday I take the early train to London, and have breakfast on the way. "
        "Tuesday is for the dentist, who is never in a hurry. "
        "Wednesday brings my sister with her three children and a very large dog. "
        "Thursday evening we go to the theatre, if there are any tickets left. "
        "By Friday the kitchen should be painted, green this time. "
        "Saturday is the market, where I buy apples, cheese and fresh bread. "
        "And on Sunday nobody may ask me to do anything at all before noon. "
        "Please write all of this down, because I will forget half of it again."
    )
    assert len(samples) > 30 * 16_000

    segments = await heard(whisper, samples)

    text = "".join(segment.text for segment in segments)
    assert [day for day in days if day in text] == list(days)
    assert text.count("London") == 1
    assert all(one.end_s <= other.start_s + 0.5 for one, other in pairwise(segments))
    assert segments[-1].end_s <= len(samples) / 16_000


async def test_nothing_is_heard_in_nothing(whisper: TransformersTranscription) -> None:
    assert await heard(whisper, np.zeros(800, dtype=np.float32)) == []


async def test_whisper_stops_within_a_step(whisper: TransformersTranscription, say: Any, steps: Steps) -> None:
    await hang_up_while_decoding(whisper, say(MEETING), steps)

    assert steps.taken == 3


# Cohere: the real classes round random weights.


@pytest.fixture(scope="module")
def cohere_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohere")
    checkpoints.write_cohere(folder)
    return folder


@pytest.fixture(scope="module")
def cohere(cohere_folder: Path) -> Iterator[TransformersTranscription]:
    runtime = asyncio.run(load(model("en"), cohere_folder))
    yield runtime
    asyncio.run(runtime.close())


def noise(seconds: float) -> Samples:
    return np.random.default_rng(0).normal(scale=0.1, size=int(seconds * 16_000)).astype(np.float32)


def test_cohere_knows_its_languages(cohere: TransformersTranscription) -> None:
    assert tuple(cohere.languages) == checkpoints.COHERE_LANGUAGES


async def test_a_short_recording_is_one_segment(cohere: TransformersTranscription) -> None:
    [segment] = await heard(cohere, noise(3), language="de")

    assert (segment.start_s, segment.end_s, segment.language) == (0.0, 3.0, "de")
    assert all(word.startswith("w") for word in segment.text.split())


async def test_a_long_recording_is_cut_where_it_is_quiet(cohere: TransformersTranscription) -> None:
    samples = noise(80)
    samples[32 * 16_000 : 65 * 8_000] = 0

    segments = await heard(cohere, samples)

    assert len(segments) == 3
    assert 31.9 <= segments[0].end_s <= 32.6
    assert segments[0].start_s == 0.0
    assert segments[-1].end_s == 80.0
    assert [one.end_s for one in segments[:-1]] == [other.start_s for other in segments[1:]]
    assert not segments[0].text.startswith(" ")
    assert segments[1].text.startswith(" ")


async def test_languages_without_spaces_are_joined_without(cohere: TransformersTranscription) -> None:
    segments = await heard(cohere, noise(40), language="ja")

    assert not segments[1].text.startswith(" ")


async def test_the_default_language_serves_where_none_is_said(cohere: TransformersTranscription) -> None:
    [segment] = await heard(cohere, noise(1), temperature=0.5)

    assert segment.language == "en"


async def test_without_any_language_cohere_asks_for_one(cohere_folder: Path) -> None:
    runtime = await load(model(), cohere_folder)

    with pytest.raises(InvalidRequest, match="ar, de, el, en") as refused:
        await heard(runtime, noise(1))
    assert refused.value.param == "language"
    await runtime.close()


async def test_a_moment_too_short_for_a_word_is_nothing(cohere: TransformersTranscription) -> None:
    assert await heard(cohere, noise(0.01)) == []


async def test_cohere_stops_within_a_step(cohere: TransformersTranscription, steps: Steps) -> None:
    await hang_up_while_decoding(cohere, noise(3), steps)

    assert steps.taken == 3


async def test_a_default_language_that_the_model_does_not_know_is_refused(cohere_folder: Path) -> None:
    with pytest.raises(LoadFailed, match=r"'xx'.*ar, de"):
        await load(model("xx"), cohere_folder)


async def test_a_model_of_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))

    with pytest.raises(LoadFailed, match=r"whisper or cohere_asr.*'bert'"):
        await load(model(), tmp_path)


# What Whisper's timestamps mean. Timestamps count from 1000 here: 1000 is 0 s, 1050 is 1 s.


def test_segments_lie_between_timestamps() -> None:
    segments, advance_s = split_at_timestamps([1000, 1, 2, 1050, 1050, 3, 1100], 1000, 30.0)

    assert segments == [(0.0, 1.0, [1000, 1, 2, 1050]), (1.0, 2.0, [1050, 3, 1100])]
    assert advance_s == 30.0


def test_what_the_window_cut_off_is_heard_again() -> None:
    segments, advance_s = split_at_timestamps([1000, 1, 1050, 1050, 2, 3], 1000, 30.0)

    assert segments == [(0.0, 1.0, [1000, 1, 1050])]
    assert advance_s == 1.0


def test_a_window_that_ends_between_segments_is_taken_up_there() -> None:
    segments, advance_s = split_at_timestamps([1000, 1, 1050, 1060, 2, 1100, 1100], 1000, 30.0)

    assert segments == [(0.0, 1.0, [1000, 1, 1050]), (1.2, 2.0, [1060, 2, 1100])]
    assert advance_s == 2.0


def test_one_timestamp_alone_ends_the_only_segment() -> None:
    assert split_at_timestamps([1000, 1, 2, 1050], 1000, 30.0) == ([(0.0, 1.0, [1000, 1, 2, 1050])], 30.0)


def test_without_timestamps_the_window_is_one_segment() -> None:
    assert split_at_timestamps([1, 2], 1000, 12.5) == ([(0.0, 12.5, [1, 2])], 12.5)


def test_no_tokens_are_no_segment() -> None:
    assert split_at_timestamps([], 1000, 30.0) == ([], 30.0)


@given(st.lists(st.integers(0, 2500), max_size=40).map(lambda tokens: [min(token + 500, 2500) for token in tokens]))
def test_whatever_is_said_time_moves_on_within_the_window(tokens: list[int]) -> None:
    segments, advance_s = split_at_timestamps(tokens, 1000, 20.0)

    assert 0 < advance_s <= 20.0
    assert all(0 <= start_s <= 20.0 and 0 <= end_s <= 20.0 for start_s, end_s, _ in segments)
    said = [token for _, _, part in segments for token in part]
    assert said == tokens[: len(said)]


def test_a_loop_is_repetitive_and_a_sentence_is_not() -> None:
    assert repetition("the train " * 50) > 2.4
    assert repetition(MEETING) < 2.4
    assert repetition("") < 2.4
