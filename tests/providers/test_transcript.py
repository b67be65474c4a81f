import json
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.errors import LoadFailed
from llmux.request import begin
from providers.runtime import Segment, Word
from providers.transcript import events, render, render_srt, render_vtt
from providers.transcription import parse

SEGMENTS = [
    Segment(0.0, 2.5, " The meeting is in London", "en"),
    Segment(2.5, 3661.0421, " on Monday <b>&\n\nnot --> Tuesday.", "en"),
]


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


def test_words_and_their_times_stand_beside_the_segments() -> None:
    words = (Word(0.1, 0.40004, " The"), Word(0.5, 0.9, " meeting"))
    wanted = parse({"response_format": "verbose_json", "timestamp_granularities": ["word"]})

    body = render([Segment(0.0, 1.0, " The meeting", "en", words)], wanted, language="en", duration_s=1.0).body

    assert isinstance(body, dict)
    assert body["words"] == [
        {"word": "The", "start": 0.1, "end": 0.4},
        {"word": "meeting", "start": 0.5, "end": 0.9},
    ]
    assert [segment["text"] for segment in body["segments"]] == [" The meeting"]


def test_words_that_nobody_asked_for_are_left_out() -> None:
    assert "words" not in rendered("verbose_json")


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


async def told(*segments: Segment | Exception) -> list[bytes]:
    async def found() -> AsyncGenerator[Segment, None]:
        for segment in segments:
            if isinstance(segment, Exception):
                raise segment
            yield segment

    return [frame async for frame in events(found())]


async def test_events_are_the_text_as_it_comes_and_then_the_whole_of_it() -> None:
    frames = await told(Segment(0.0, 1.0, " Grüß", "de"), Segment(1.0, 2.0, " Gott", "de"))

    assert [json.loads(frame.removeprefix(b"data: ")) for frame in frames] == [
        {"type": "transcript.text.delta", "delta": "Grüß"},
        {"type": "transcript.text.delta", "delta": " Gott"},
        {"type": "transcript.text.done", "text": "Grüß Gott"},
    ]
    assert all(frame.endswith(b"\n\n") for frame in frames)


async def test_silence_is_one_event() -> None:
    [frame] = await told()

    assert json.loads(frame.removeprefix(b"data: ")) == {"type": "transcript.text.done", "text": ""}


async def test_an_error_half_way_is_the_last_event() -> None:
    begin()
    *_, last = await told(Segment(0.0, 1.0, " Hello", "en"), LoadFailed("the ear broke"))

    assert b"the ear broke" in last
    assert b"transcript.text.done" not in last


async def test_an_error_that_nobody_foresaw_tells_nothing() -> None:
    begin()
    *_, last = await told(ValueError("/secret/path"))

    assert b"secret" not in last
    assert b'"error"' in last
