"""What was said, in the shapes that OpenAI's clients ask for."""

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from llmux.frame import last_frames
from llmux.request import current, errors_noted
from providers.runtime import Segment, Word

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]

CONTENT_TYPES: Mapping[ResponseFormat, str] = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "verbose_json": "application/json",
    "vtt": "text/vtt; charset=utf-8",
}

EVENTS = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class TranscriptionOptions:
    """What a request says beside the file.

    language: ISO 639-1, or None where the request leaves it open
    prompt: text that is taken for said before
    temperature: 0 to 1; 0 lets the model decide with care
    words: whether the times of words are asked for
    stream: whether the text is asked for as events, as it is heard
    """

    language: str | None = None
    prompt: str | None = None
    response_format: ResponseFormat = "json"
    temperature: float = 0.0
    words: bool = False
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Transcript:
    """The answer: a JSON object, the bare text of the other formats, or events that are still being made.

    duration_s: how much of the recording was listened to so far: all of it once the answer is complete
    """

    body: str | dict[str, Any] | AsyncGenerator[bytes, None]
    content_type: str
    duration_s: Callable[[], float]


def render(
    segments: Sequence[Segment], options: TranscriptionOptions, *, language: str | None, duration_s: float
) -> Transcript:
    """The answer in the format that was asked for.

    language: what was heard, or None where nothing was
    duration_s: length of the recording
    """
    text = "".join(segment.text for segment in segments).strip()
    body: str | dict[str, Any]
    match options.response_format:
        case "json":
            body = {"text": text}
        case "text":
            body = f"{text}\n"
        case "srt":
            body = render_srt(segments)
        case "vtt":
            body = render_vtt(segments)
        case "verbose_json":
            body = {
                "task": "transcribe",
                "language": language or "",
                "duration": round(duration_s, 3),
                "text": text,
                "segments": [_verbose(number, segment, options) for number, segment in enumerate(segments)],
            }
            if options.words:
                body["words"] = [_word(word) for segment in segments for word in segment.words]
    return Transcript(body, CONTENT_TYPES[options.response_format], lambda: duration_s)


def render_srt(segments: Iterable[Segment]) -> str:
    """SubRip subtitles: numbered from 1, a comma before the milliseconds."""
    return "".join(
        f"{number}\n{_clock(start_ms, ',')} --> {_clock(end_ms, ',')}\n{text.replace('-->', '->')}\n\n"
        for number, (start_ms, end_ms, text) in enumerate(_cues(segments), 1)
    )


def render_vtt(segments: Iterable[Segment]) -> str:
    """WebVTT subtitles, with what would be markup escaped."""
    cues = (
        f"{_clock(start_ms, '.')} --> {_clock(end_ms, '.')}\n"
        f"{text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}\n\n"
        for start_ms, end_ms, text in _cues(segments)
    )
    return "".join(["WEBVTT\n\n", *cues])


async def events(segments: AsyncGenerator[Segment, None]) -> AsyncGenerator[bytes, None]:
    """OpenAI's events: the text as it is heard, and the whole of it. An error is the last one."""
    text = ""
    try:
        with errors_noted():
            async with aclosing(segments):
                async for segment in segments:
                    delta = segment.text if text else segment.text.lstrip()
                    text += delta
                    yield _event({"type": "transcript.text.delta", "delta": delta})
        yield _event({"type": "transcript.text.done", "text": text})
    except Exception:
        error = current().error
        assert error is not None, "noted just now"
        yield last_frames(error.body()["error"])


def _event(event: Mapping[str, str]) -> bytes:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def _verbose(number: int, segment: Segment, options: TranscriptionOptions) -> dict[str, Any]:
    """OpenAI's segment object. Clients with strict types need every field, so what is not known is neutral."""
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": options.temperature,
        "avg_logprob": 0.0,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }


def _word(word: Word) -> dict[str, Any]:
    return {"word": word.text.strip(), "start": round(word.start_s, 3), "end": round(word.end_s, 3)}


def _cues(segments: Iterable[Segment]) -> Iterable[tuple[int, int, str]]:
    """(start, end) in milliseconds and text on one line: a blank line would end a subtitle, as would no duration."""
    for segment in segments:
        if text := " ".join(segment.text.split()):
            start_ms = round(segment.start_s * 1000)
            yield start_ms, max(round(segment.end_s * 1000), start_ms + 1), text


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"
