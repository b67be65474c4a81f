import asyncio
import io
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import numpy as np
import pytest
import soundfile

from llmux.config import Limits
from llmux.errors import InvalidAudio, InvalidRequest, LoadFailed, RequestTooLarge
from providers.runtime import Samples, Segment, TranscriptionRuntime, Word
from providers.transcript import TranscriptionOptions
from providers.transcription import TranscriptionProvider, normalize_language, parse, placed
from providers.window import Window, windows

T = TypeVar("T")


class Echo:
    """Hears a word a window, which says how long that was: by the second it was given, and in seconds.

    most: windows that it was given at one time
    go_on: cleared, it hears nothing until it is set
    two: set once it was given two at one time
    """

    languages: Sequence[str] = ("de", "en")

    def __init__(self, sample_rate: int = 16_000, *, tells_words: bool = True) -> None:
        self.sample_rate = sample_rate
        self.tells_words = tells_words
        self.asked: list[dict[str, Any]] = []
        self.breaks = False
        self.open = self.most = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.two = asyncio.Event()

    async def transcribe(
        self, samples: Samples, *, language: str | None, prompt: str | None, temperature: float, words: bool = False
    ) -> AsyncGenerator[Segment, None]:
        self.asked.append({"language": language, "prompt": prompt, "temperature": temperature})
        number = len(self.asked)
        length_s = len(samples) / self.sample_rate
        self.open += 1
        self.most = max(self.most, self.open)
        if self.open == 2:
            self.two.set()
        try:
            await self.go_on.wait()
            if self.breaks:
                raise LoadFailed("the ear broke")
            said = (Word(0.4, 0.8, f" word{number}"),) if words else ()
            yield Segment(0.0, length_s, f" word{number}", language or "en", said)
        finally:
            self.open -= 1

    async def close(self) -> None: ...


class Lent:
    """Leases that only count."""

    def __init__(self, runtime: Echo) -> None:
        self.runtime = runtime
        self.leases = 0
        self.held = 0

    async def stream(
        self, physical: str, work: Callable[[TranscriptionRuntime], AsyncGenerator[T, None]]
    ) -> AsyncGenerator[T, None]:
        self.leases += 1
        self.held += 1
        try:
            async with aclosing(work(self.runtime)) as items:
                async for item in items:
                    yield item
        finally:
            self.held -= 1


class Apart(Lent):
    """Leases whose work is in a task of its own, which ends after whoever asked has gone: as those of Leased."""

    async def stream(
        self, physical: str, work: Callable[[TranscriptionRuntime], AsyncGenerator[T, None]]
    ) -> AsyncGenerator[T, None]:
        items: asyncio.Queue[T] = asyncio.Queue()

        async def run() -> None:
            async for item in super(Apart, self).stream(physical, work):
                items.put_nowait(item)

        self.task = asyncio.create_task(run())
        try:
            while True:
                yield await items.get()
        finally:
            self.task.cancel()


@pytest.fixture(scope="module")
def speech() -> Samples:
    """4.4 s at 24 kHz: two sentences, and a little silence round them."""
    from hibari import Hibari

    samples: Samples = Hibari()("The meeting in London has been moved to Monday morning. Yes.", seed=1)
    return samples


@pytest.fixture(scope="module")
def recording(speech: Samples) -> Callable[..., bytes]:
    """A WAV with somebody speaking, so many times, with so many seconds of silence between."""

    def recording(times: int = 1, pause_s: float = 0.0) -> bytes:
        file = io.BytesIO()
        pause = np.zeros(int(pause_s * 24_000), np.float32)
        soundfile.write(file, np.concatenate([speech, pause] * times), 24_000, format="WAV")
        return file.getvalue()

    return recording


@pytest.fixture
def lent() -> Lent:
    return Lent(Echo())


@pytest.fixture
def provider(lent: Lent) -> TranscriptionProvider:
    return TranscriptionProvider(lent, Limits())


async def test_json_is_the_default(
    provider: TranscriptionProvider, lent: Lent, recording: Any, speech: Samples
) -> None:
    answer = await provider.transcribe("echo", recording(), {"model": "echo", "user": "x", "language": ""})

    assert (answer.body, answer.content_type) == ({"text": "word1"}, "application/json")
    assert answer.duration_s() == pytest.approx(len(speech) / 24_000, abs=0.05)
    assert lent.runtime.asked == [{"language": None, "prompt": None, "temperature": 0.0}]
    assert lent.held == 0


async def test_what_the_request_says_reaches_the_model(
    provider: TranscriptionProvider, lent: Lent, recording: Any
) -> None:
    await provider.transcribe("echo", recording(), {"language": "de-AT", "prompt": "Wien", "temperature": "0.5"})

    assert lent.runtime.asked == [{"language": "de", "prompt": "Wien", "temperature": 0.5}]


async def test_a_model_that_hears_in_another_rate_gets_that(lent: Lent, recording: Any) -> None:
    lent.runtime = Echo(sample_rate=8_000)

    answer = await TranscriptionProvider(lent, Limits()).transcribe(
        "echo", recording(), {"response_format": "verbose_json"}
    )

    assert isinstance(answer.body, dict)
    assert answer.body["duration"] == pytest.approx(4.45, abs=0.05)
    assert answer.body["segments"][0]["end"] == pytest.approx(4.2, abs=0.2)


async def test_times_are_those_of_the_recording_and_of_its_speech(
    provider: TranscriptionProvider, recording: Any
) -> None:
    wanted = {"response_format": "verbose_json", "timestamp_granularities": ["word"]}

    answer = await provider.transcribe("echo", recording(times=2, pause_s=20), wanted)

    assert isinstance(answer.body, dict)
    first, second = answer.body["segments"]
    assert first["start"] == pytest.approx(0.3, abs=0.1)
    assert first["end"] == pytest.approx(4.2, abs=0.2)
    assert second["start"] == pytest.approx(24.45 + 0.3, abs=0.1)
    assert second["end"] == pytest.approx(24.45 + 4.2, abs=0.2)
    assert [word["word"] for word in answer.body["words"]] == ["word1", "word2"]
    assert answer.body["words"][1]["start"] == pytest.approx(24.45 + 0.4, abs=0.1)


async def test_where_nobody_speaks_no_model_is_asked_for(provider: TranscriptionProvider, lent: Lent) -> None:
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(160_000), 16_000, format="WAV")

    answer = await provider.transcribe("echo", silence.getvalue(), {})

    assert answer.body == {"text": ""}
    assert lent.leases == 0


async def test_a_long_recording_is_heard_in_order_and_a_few_windows_at_a_time(
    provider: TranscriptionProvider, lent: Lent, recording: Any
) -> None:
    lent.runtime.go_on.clear()
    asking = asyncio.create_task(provider.transcribe("echo", recording(times=6, pause_s=5), {"language": "en"}))
    await lent.runtime.two.wait()
    lent.runtime.go_on.set()
    answer = await asking

    assert answer.body == {"text": "word1 word2 word3 word4 word5 word6"}
    assert lent.runtime.most == 2


async def test_the_language_of_the_first_words_holds_for_the_rest(
    provider: TranscriptionProvider, lent: Lent, recording: Any
) -> None:
    await provider.transcribe("echo", recording(times=3, pause_s=5), {})

    assert [asked["language"] for asked in lent.runtime.asked] == [None, "en", "en"]


async def test_events_come_while_the_rest_is_still_being_heard(
    provider: TranscriptionProvider, lent: Lent, recording: Any
) -> None:
    answer = await provider.transcribe("echo", recording(times=3, pause_s=5), {"stream": "true"})

    assert answer.content_type.startswith("text/event-stream")
    assert not isinstance(answer.body, str | dict)
    assert b"word1" in await anext(answer.body)
    assert lent.held == 1
    frames = [frame async for frame in answer.body]
    assert b'"text": "word1 word2 word3"' in frames[-1]
    assert lent.held == 0


async def test_whoever_stops_listening_gives_the_model_back_with_all_its_windows(
    provider: TranscriptionProvider, lent: Lent, recording: Any
) -> None:
    answer = await provider.transcribe("echo", recording(times=6, pause_s=5), {"stream": True})
    assert not isinstance(answer.body, str | dict)
    await anext(answer.body)
    lent.runtime.go_on.clear()

    await answer.body.aclose()

    assert (lent.held, lent.runtime.open) == (0, 0)


async def test_a_request_that_is_cancelled_gives_the_model_back_with_all_its_windows(
    provider: TranscriptionProvider, lent: Lent, recording: Any
) -> None:
    lent.runtime.go_on.clear()
    asking = asyncio.create_task(provider.transcribe("echo", recording(times=6, pause_s=5), {"language": "en"}))
    await lent.runtime.two.wait()

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert (lent.held, lent.runtime.open) == (0, 0)


async def test_a_request_may_be_cancelled_while_its_recording_is_being_read(
    recording: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent, reads, read_on = Apart(Echo()), threading.Event(), threading.Event()

    def slowly(blocks: Iterator[Samples]) -> Iterator[list[Window]]:
        yield [window for ended in windows(blocks) for window in ended]
        reads.set()
        read_on.wait()

    monkeypatch.setattr("providers.transcription.windows", slowly)
    provider = TranscriptionProvider(lent, Limits())
    asking = asyncio.create_task(provider.transcribe("echo", recording(), {"language": "en"}))
    await asyncio.to_thread(reads.wait)

    asking.cancel()
    try:
        with pytest.raises(asyncio.CancelledError):
            await asking
    finally:
        read_on.set()
    with pytest.raises(asyncio.CancelledError):
        await lent.task

    assert (lent.held, lent.runtime.open) == (0, 0)


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_broken_file_loads_no_model(provider: TranscriptionProvider, lent: Lent, stream: str) -> None:
    with pytest.raises(InvalidAudio):
        await provider.transcribe("echo", b"not a recording", {"stream": stream})

    assert lent.leases == 0


async def test_a_file_beyond_the_limit_is_refused_unread(lent: Lent) -> None:
    provider = TranscriptionProvider(lent, Limits.model_validate({"request_body": "1 MB"}))

    with pytest.raises(RequestTooLarge, match="1 MB"):
        await provider.transcribe("echo", bytes(1_000_001), {})


async def test_a_language_that_the_model_does_not_know_is_refused(
    provider: TranscriptionProvider, lent: Lent, recording: Any
) -> None:
    with pytest.raises(InvalidRequest, match="de, en") as refused:
        await provider.transcribe("echo", recording(), {"language": "xx"})

    assert refused.value.param == "language"
    assert lent.held == 0


async def test_words_of_a_model_that_knows_only_segments_are_refused(lent: Lent, recording: Any) -> None:
    lent.runtime = Echo(tells_words=False)
    wanted = {"response_format": "verbose_json", "timestamp_granularities": "word", "stream": "true"}

    with pytest.raises(InvalidRequest, match="segments") as refused:
        await TranscriptionProvider(lent, Limits()).transcribe("echo", recording(), wanted)

    assert refused.value.param == "timestamp_granularities"
    assert lent.held == 0


async def test_a_failure_half_way_gives_the_model_back(
    provider: TranscriptionProvider, lent: Lent, recording: Any
) -> None:
    lent.runtime.breaks = True

    with pytest.raises(LoadFailed):
        await provider.transcribe("echo", recording(times=2, pause_s=5), {"language": "en"})
    assert (lent.held, lent.runtime.open) == (0, 0)


def test_what_a_model_says_of_the_margins_is_put_into_the_speech() -> None:
    window = Window(10.0, np.zeros(16_000, np.float32), 10.3, 10.7)

    segment = placed(Segment(0.0, 1.0, " yes", "en", (Word(0.1, 0.5, " yes"),)), window)

    assert (segment.start_s, segment.end_s) == (10.3, 10.7)
    assert segment.words == (Word(10.3, 10.5, " yes"),)


@pytest.mark.parametrize(
    ("wrong", "param", "says"),
    [
        ({"response_format": "xml"}, "response_format", "json, text, srt, verbose_json, vtt"),
        ({"temperature": 1.1}, "temperature", "0 to 1"),
        ({"temperature": -0.1}, "temperature", "0 to 1"),
        ({"temperature": "warm"}, "temperature", "0 to 1"),
        ({"temperature": "nan"}, "temperature", "0 to 1"),
        ({"response_format": "diarized_json"}, "response_format", "who speaks"),
        ({"task": "translate"}, "task", "own language"),
        ({"timestamp_granularities": ["segment", "word"]}, "timestamp_granularities", "verbose_json"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities", "verbose_json"),
        ({"language": "english please"}, "language", "ISO 639-1"),
    ],
)
async def test_a_wrong_request_is_refused_before_a_model_is_asked_for(
    provider: TranscriptionProvider, lent: Lent, wrong: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        await provider.transcribe("echo", b"", wrong)

    assert refused.value.param == param
    assert lent.leases == 0


def test_empty_fields_are_as_good_as_none() -> None:
    empty = {"language": "", "prompt": "", "response_format": "", "temperature": "", "stream": "false"}

    assert parse(empty) == parse({}) == TranscriptionOptions()


@pytest.mark.parametrize(
    ("given_as", "code"),
    [(None, None), ("", None), ("auto", None), ("Auto", None), ("en", "en"), ("en-US", "en"), ("pt_BR", "pt")],
)
def test_languages_are_normalized(given_as: object, code: str | None) -> None:
    assert normalize_language(given_as) == code
