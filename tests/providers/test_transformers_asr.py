import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmux.config import Model
from llmux.errors import InvalidRequest, LoadFailed
from providers.audio import resample
from providers.runtime import Samples, Segment, TranscriptionRuntime, Word
from providers.transformers_asr import TransformersTranscription, later, load
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
    words: bool = False,
) -> list[Segment]:
    found = runtime.transcribe(samples, language=language, prompt=prompt, temperature=temperature, words=words)
    return [segment async for segment in found]


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


async def test_words_have_their_times(whisper: TransformersTranscription, say: Any) -> None:
    samples = say(MEETING)
    [segment] = await heard(whisper, samples, language="en", words=True)

    assert whisper.tells_words
    assert "".join(word.text for word in segment.words) == segment.text
    assert all(word.start_s < word.end_s for word in segment.words)
    assert all(one.end_s <= other.start_s for one, other in pairwise(segment.words))
    (london,) = [word for word in segment.words if "London" in word.text]
    assert 0.8 < london.start_s < london.end_s < 1.6  # in the samples it is from 0.9 to 1.4
    assert segment.words[-1].end_s <= len(samples) / 16_000


async def test_several_recordings_are_heard_together_each_as_if_alone(
    whisper: TransformersTranscription, say: Any
) -> None:
    said = [MEETING, "I gave the letter to Catherine on Monday.", "Nobody may ask me to do anything on Sunday."]
    samples = [say(text) for text in said]

    together = await asyncio.gather(*(heard(whisper, each, language="en") for each in samples))

    assert "London" in together[0][0].text
    assert "letter" in together[1][0].text
    assert "Sunday" in together[2][0].text
    assert together[1] == await heard(whisper, samples[1], language="en")


async def test_who_leaves_a_batch_does_not_stop_the_others(
    whisper: TransformersTranscription, say: Any, steps: Steps
) -> None:
    first = asyncio.create_task(heard(whisper, say("Good morning."), language="en"))
    await steps.reached.wait()
    staying = asyncio.create_task(heard(whisper, say(MEETING), language="en"))
    leaving = asyncio.create_task(heard(whisper, say("Nobody may ask me anything."), language="en"))
    steps.go_on.set()
    await first
    leaving.cancel()

    with pytest.raises(asyncio.CancelledError):
        await leaving
    [segment] = await staying
    assert "London" in segment.text


def test_what_is_said_later_has_all_its_times_later() -> None:
    segment = Segment(0.0, 2.0, " yes", "en", (Word(0.5, 1.0, " yes"),))

    assert later(segment, 10.0) == Segment(10.0, 12.0, " yes", "en", (Word(10.5, 11.0, " yes"),))


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


async def test_a_longer_recording_is_heard_in_steps(cohere: TransformersTranscription) -> None:
    segments = await heard(cohere, noise(70), language="de")

    assert [(segment.start_s, segment.end_s) for segment in segments] == [(0.0, 30.0), (30.0, 60.0), (60.0, 70.0)]
    assert all(segment.text.startswith(" ") for segment in segments)


async def test_languages_without_spaces_are_joined_without(cohere: TransformersTranscription) -> None:
    [segment] = await heard(cohere, noise(3), language="ja")

    assert not segment.text.startswith(" ")


async def test_recordings_of_two_lengths_and_languages_are_heard_at_one_time(
    cohere: TransformersTranscription,
) -> None:
    alone = [await heard(cohere, noise(length_s), language=language) for length_s, language in ((3, "de"), (5, "en"))]

    together = await asyncio.gather(
        *(heard(cohere, noise(length_s), language=language) for length_s, language in ((3, "de"), (5, "en"), (4, "de")))
    )

    assert together[:2] == alone


async def test_cohere_tells_no_words(cohere: TransformersTranscription) -> None:
    assert not cohere.tells_words


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
