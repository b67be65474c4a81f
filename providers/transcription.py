"""/v1/audio/transcriptions over any TranscriptionRuntime."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast, get_args

from llmux.config import Limits
from llmux.errors import InvalidRequest, RequestTooLarge
from providers import audio
from providers.leased import Lender
from providers.runtime import Segment, TranscriptionRuntime

T = TypeVar("T")

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]

CONTENT_TYPES: Mapping[ResponseFormat, str] = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "verbose_json": "application/json",
    "vtt": "text/vtt; charset=utf-8",
}

LONGEST_S = 4 * 3600.0
"""A recording beyond this is refused: decoded, this much takes 0.9 GB of memory."""

_SAMPLE_RATE = 16_000
"""What recordings are decoded to, before any model is asked for: every recognizer so far hears in this rate."""


@dataclass(frozen=True, slots=True)
class TranscriptionOptions:
    """What a request says beside the file.

    language: ISO 639-1, or None where the request leaves it open
    prompt: text that is taken for said before
    temperature: 0 to 1; 0 lets the model decide with care
    """

    language: str | None = None
    prompt: str | None = None
    response_format: ResponseFormat = "json"
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """The answer: a JSON object, or the bare text of the other formats.

    duration_s: length of the recording
    """

    body: str | dict[str, Any]
    content_type: str
    duration_s: float


def parse(options: Mapping[str, Any]) -> TranscriptionOptions:
    """Check OpenAI's fields, which a form may bring as text; others are ignored. Raises InvalidRequest."""
    response_format = options.get("response_format") or "json"
    if response_format not in get_args(ResponseFormat):
        raise InvalidRequest(
            f"response_format {response_format!r} is not available; there are {', '.join(get_args(ResponseFormat))}",
            param="response_format",
        )
    granularities = options.get("timestamp_granularities") or options.get("timestamp_granularities[]") or ()
    if "word" in granularities:  # alone, or one of several
        raise InvalidRequest(
            "timestamp_granularities: words have no times yet; there are segments", param="timestamp_granularities"
        )
    if str(options.get("stream") or "").lower() in ("true", "1"):
        raise InvalidRequest("stream: a transcription is not streamed yet; ask again without it", param="stream")
    prompt = options.get("prompt")
    return TranscriptionOptions(
        language=normalize_language(options.get("language")),
        prompt=prompt if isinstance(prompt, str) and prompt.strip() else None,
        response_format=cast(ResponseFormat, response_format),
        temperature=_temperature(options.get("temperature")),
    )


def normalize_language(language: object) -> str | None:
    """'en-US', 'EN' -> 'en'; nothing, '' and 'auto' -> None. Raises InvalidRequest for what is no language code."""
    if language is None:
        return None
    code = re.split(r"[-_]", str(language).strip().lower())[0]
    if code in ("", "auto"):
        return None
    if not re.fullmatch(r"[a-z]{2,3}", code):
        raise InvalidRequest("language must be an ISO 639-1 code, such as en or de", param="language")
    return code


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
    return Transcript(body, CONTENT_TYPES[options.response_format], duration_s)


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


class TranscriptionProvider:
    """Answers /v1/audio/transcriptions."""

    def __init__(self, leased: Lender, limits: Limits) -> None:
        self._leased = leased
        self._limits = limits

    async def transcribe(self, physical: str, file_bytes: bytes, options: Mapping[str, Any]) -> Transcript:
        """What is said in a recording. The model is leased only once the recording is decoded.

        Raises InvalidRequest, InvalidAudio, RequestTooLarge, or what leasing and running the model raise.
        """
        wanted = parse(options)
        if len(file_bytes) > self._limits.request_body:
            raise RequestTooLarge(f"the file is larger than {self._limits.request_body / 10**6:g} MB", param="file")
        samples = await asyncio.to_thread(audio.decode, file_bytes, _SAMPLE_RATE, max_s=LONGEST_S)

        async def work(runtime: TranscriptionRuntime) -> AsyncGenerator[Segment, None]:
            if wanted.language is not None and wanted.language not in runtime.languages:
                raise InvalidRequest(
                    f"language {wanted.language!r} is not one that this model knows; "
                    f"it knows {', '.join(runtime.languages)}",
                    param="language",
                )
            heard = await asyncio.to_thread(audio.resample, samples, _SAMPLE_RATE, runtime.sample_rate)
            found = runtime.transcribe(
                heard, language=wanted.language, prompt=wanted.prompt, temperature=wanted.temperature
            )
            async with aclosing(found):
                async for segment in found:
                    yield segment

        async with aclosing(self._leased.stream(physical, work)) as found:
            segments = [segment async for segment in found]
        language = segments[0].language if segments else wanted.language
        return render(segments, wanted, language=language, duration_s=len(samples) / _SAMPLE_RATE)


def _temperature(value: object) -> float:
    try:
        temperature = 0.0 if value is None or value == "" else float(cast(Any, value))
    except (TypeError, ValueError):
        temperature = -1.0
    if not 0 <= temperature <= 1:
        raise InvalidRequest("temperature must be a number from 0 to 1", param="temperature")
    return temperature


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
