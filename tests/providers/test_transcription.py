import io
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from llmux.config import Limits
from llmux.errors import InvalidAudio, InvalidRequest, LoadFailed, RequestTooLarge
from providers.runtime import Samples, Segment, TranscriptionRuntime
from providers.transcription import (
    TranscriptionOptions,
    TranscriptionProvider,
    normalize_language,
    parse,
    render,
    render_srt,
    render_vtt,
)

T = TypeVar("T")

SEGMENTS = [
    Segment(0.0, 2.5, " The meeting is in London", "en"),
    Segment(2.5, 3661.0421, " on Monday <b>&\n\nnot --> Tuesday.", "en"),
]


class Echo:
    """Hears one word in every second."""

    languages: Sequence[str] = ("de", "en")

    def __init__(self, sample_rate: int = 16_000) -> None:
        self.sample_rate = sample_rate
        self.asked: dict[str, Any] = {}
        self.breaks = False

    async def transcribe(
        self, samples: Samples, *, language: str | None, prompt: str | None, temperature: float
    ) -> AsyncGenerator[Segment, None]:
        self.asked = {"language": language, "prompt": prompt, "temperature": temperature}
        for second in range(len(samples) // self.sample_rate):
            yield Segment(float(second), second + 1.0, f" word{second}", language or "en")
            if self.breaks:
                raise LoadFailed("the ear broke")

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


def recording(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(seconds * 44_100)), 44_100, format="WAV")
    return file.getvalue()


@pytest.fixture
def lent() -> Lent:
    return Lent(Echo())


@pytest.fixture
def provider(lent: Lent) -> TranscriptionProvider:
    return TranscriptionProvider(lent, Limits())


async def test_json_is_the_default(provider: TranscriptionProvider, lent: Lent) -> None:
    answer = await provider.transcribe("echo", recording(2), {"model": "echo", "user": "x", "language": ""})

    assert answer.body == {"text": "word0 word1"}
    assert answer.content_type == "application/json"
    assert lent.runtime.asked == {"language": None, "prompt": None, "temperature": 0.0}
    assert lent.held == 0


async def test_what_the_request_says_reaches_the_model(provider: TranscriptionProvider, lent: Lent) -> None:
    await provider.transcribe("echo", recording(1), {"language": "de-AT", "prompt": "Wien", "temperature": "0.5"})

    assert lent.runtime.asked == {"language": "de", "prompt": "Wien", "temperature": 0.5}


async def test_a_model_that_hears_in_another_rate_gets_that(lent: Lent) -> None:
    lent.runtime = Echo(sample_rate=8_000)

    answer = await TranscriptionProvider(lent, Limits()).transcribe("echo", recording(3), {"response_format": "text"})

    assert answer.body == "word0 word1 word2\n"


async def test_a_broken_file_loads_no_model(provider: TranscriptionProvider, lent: Lent) -> None:
    with pytest.raises(InvalidAudio):
        await provider.transcribe("echo", b"not a recording", {})

    assert lent.leases == 0


async def test_a_file_beyond_the_limit_is_refused_unread(lent: Lent) -> None:
    provider = TranscriptionProvider(lent, Limits.model_validate({"request_body": "1 MB"}))

    with pytest.raises(RequestTooLarge, match="1 MB"):
        await provider.transcribe("echo", bytes(1_000_001), {})


async def test_a_language_that_the_model_does_not_know_is_refused(provider: TranscriptionProvider, lent: Lent) -> None:
    with pytest.raises(InvalidRequest, match="de, en") as refused:
        await provider.transcribe("echo", recording(1), {"language": "xx"})

    assert refused.value.param == "language"
    assert lent.held == 0


async def test_a_failure_half_way_gives_the_model_back(provider: TranscriptionProvider, lent: Lent) -> None:
    lent.runtime.breaks = True

    with pytest.raises(LoadFailed):
        await provider.transcribe("echo", recording(2), {})
    assert lent.held == 0


@pytest.mark.parametrize(
    ("wrong", "param", "says"),
    [
        ({"response_format": "xml"}, "response_format", "json, text, srt, verbose_json, vtt"),
        ({"temperature": 1.1}, "temperature", "0 to 1"),
        ({"temperature": -0.1}, "temperature", "0 to 1"),
        ({"temperature": "warm"}, "temperature", "0 to 1"),
        ({"temperature": "nan"}, "temperature", "0 to 1"),
        ({"timestamp_granularities": ["segment", "word"]}, "timestamp_granularities", "segments"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities", "segments"),
        ({"stream": True}, "stream", "not streamed"),
        ({"stream": "true"}, "stream", "not streamed"),
        ({"language": "english please"}, "language", "ISO 639-1"),
    ],
)
async def test_a_wrong_request_is_refused_before_a_model_is_asked_for(
    provider: TranscriptionProvider, lent: Lent, wrong: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        await provider.transcribe("echo", recording(1), wrong)

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


def rendered(response_format: str, segments: Sequence[Segment] = SEGMENTS) -> Any:
    return render(segments, parse({"response_format": response_format}), language="en", duration_s=3662.00049).body


def test_text_is_the_bare_transcript() -> None:
    assert rendered("text", SEGMENTS[:1]) == "The meeting is in London\n"


def test_srt() -> None:
    assert rendered("srt") == (
        "1\n00:00:00,000 --> 00:00:02,500\nThe meeting is in London\n\n"
        "2\n00:00:02,500 --> 01:01:01,042\non Monday <b>& not -> Tuesday.\n\n"
    )


def test_vtt() -> None:
    assert rendered("vtt") == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:02.500\nThe meeting is in London\n\n"
        "00:00:02.500 --> 01:01:01.042\non Monday &lt;b&gt;&amp; not --&gt; Tuesday.\n\n"
    )


def test_verbose_json() -> None:
    body = rendered("verbose_json", SEGMENTS[:1])

    assert {key: body[key] for key in ("task", "language", "duration", "text")} == {
        "task": "transcribe",
        "language": "en",
        "duration": 3662.0,
        "text": "The meeting is in London",
    }
    [segment] = body["segments"]
    assert segment["id"] == 0
    assert (segment["start"], segment["end"]) == (0.0, 2.5)
    assert segment["text"] == " The meeting is in London"


def test_silence_is_an_empty_answer_in_every_format() -> None:
    assert rendered("json", []) == {"text": ""}
    assert rendered("text", []) == "\n"
    assert rendered("srt", []) == ""
    assert rendered("vtt", []) == "WEBVTT\n\n"
    assert rendered("verbose_json", [])["segments"] == []


CUE = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)[,.](\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)[,.](\d{3})")

segments = st.lists(
    st.builds(
        lambda start, length, text: Segment(start, start + length, text, "en"),
        st.floats(0, 500_000),
        st.floats(0, 30),
        st.text(max_size=30),
    ),
    max_size=10,
)


def times(cue: str) -> tuple[int, int]:
    """A subtitle's line of times, in milliseconds."""
    match = CUE.fullmatch(cue)
    assert match is not None, cue
    h1, m1, s1, ms1, h2, m2, s2, ms2 = map(int, match.groups())
    return ((h1 * 60 + m1) * 60 + s1) * 1000 + ms1, ((h2 * 60 + m2) * 60 + s2) * 1000 + ms2


def shown(of: Sequence[Segment]) -> list[Segment]:
    return [segment for segment in of if segment.text.split()]


@given(segments)
def test_srt_can_be_read_back(found: list[Segment]) -> None:
    cues = [cue.split("\n") for cue in render_srt(found).split("\n\n") if cue]

    assert [cue[0] for cue in cues] == [str(number) for number in range(1, len(shown(found)) + 1)]
    for (_, clock, text), segment in zip(cues, shown(found), strict=True):
        start_ms, end_ms = times(clock)
        assert start_ms == pytest.approx(segment.start_s * 1000, abs=1)
        assert end_ms > start_ms
        assert "-->" not in text
        assert text.strip()


@given(segments)
def test_vtt_can_be_read_back(found: list[Segment]) -> None:
    header, *cues = render_vtt(found).removesuffix("\n\n").split("\n\n")

    assert header == "WEBVTT"
    for cue, segment in zip(cues, shown(found), strict=True):
        clock, text = cue.split("\n")
        start_ms, end_ms = times(clock)
        assert end_ms > start_ms
        assert not set("<>") & set(text)
        plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert plain.split() == segment.text.split()
