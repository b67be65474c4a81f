"""/v1/audio/transcriptions over any TranscriptionRuntime."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast, get_args

from llmux.config import Limits
from llmux.errors import InvalidRequest, RequestTooLarge
from providers import audio
from providers.leased import Lender
from providers.runtime import Samples, Segment, TranscriptionRuntime, Word
from providers.transcript import EVENTS, ResponseFormat, Transcript, TranscriptionOptions, events, render
from providers.vad import FRAME, SAMPLE_RATE
from providers.window import Window, windows

LONGEST_S = 4 * 3600.0
"""A recording beyond this is refused. It costs time, not memory: no more than a few windows of it are ever held."""

_BLOCK = 160 * FRAME
"""Samples that are decoded and listened to at one time: 5 s, which takes some 20 ms."""

_IN_FLIGHT = 2
"""Windows of one recording that a model is given at one time: what an hour needs is then what a minute does."""


def parse(options: Mapping[str, Any]) -> TranscriptionOptions:
    """Check OpenAI's fields, which a form may bring as text; others are ignored. Raises InvalidRequest."""
    response_format = options.get("response_format") or "json"
    if response_format == "diarized_json" or options.get("known_speaker_names"):
        raise InvalidRequest("who speaks is not told here; ask for another response_format", param="response_format")
    if response_format not in get_args(ResponseFormat):
        raise InvalidRequest(
            f"response_format {response_format!r} is not available; there are {', '.join(get_args(ResponseFormat))}",
            param="response_format",
        )
    if (options.get("task") or "transcribe") != "transcribe":
        raise InvalidRequest("speech is written down in its own language; ask a chat model to translate", param="task")
    granularities = options.get("timestamp_granularities") or options.get("timestamp_granularities[]") or ()
    words = "word" in granularities  # alone, or one of several
    if words and response_format != "verbose_json":
        raise InvalidRequest(
            "timestamp_granularities: words have their times in response_format verbose_json alone",
            param="timestamp_granularities",
        )
    prompt = options.get("prompt")
    return TranscriptionOptions(
        language=normalize_language(options.get("language")),
        prompt=prompt if isinstance(prompt, str) and prompt.strip() else None,
        response_format=cast(ResponseFormat, response_format),
        temperature=_temperature(options.get("temperature")),
        words=words,
        stream=str(options.get("stream") or "").lower() in ("true", "1"),
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


class TranscriptionProvider:
    """Answers /v1/audio/transcriptions."""

    def __init__(self, leased: Lender, limits: Limits) -> None:
        self._leased = leased
        self._limits = limits

    async def transcribe(self, physical: str, file_bytes: bytes, options: Mapping[str, Any]) -> Transcript:
        """What is said in a recording. The model is leased only once somebody has spoken in it.

        Raises InvalidRequest, InvalidAudio, RequestTooLarge, or what leasing and running the model raise; of events,
        only what is known before the first of them.
        """
        wanted = parse(options)
        if len(file_bytes) > self._limits.request_body:
            raise RequestTooLarge(f"the file is larger than {self._limits.request_body / 10**6:g} MB", param="file")
        recording = _Recording(file_bytes)
        segments = self._segments(physical, recording, wanted)
        if wanted.stream:
            try:
                first = [await anext(segments)]
            except StopAsyncIteration:
                first = []
            return Transcript(events(_chained(first, segments)), EVENTS, lambda: recording.duration_s)
        async with aclosing(segments):
            found = [segment async for segment in segments]
        language = found[0].language if found else wanted.language
        return render(found, wanted, language=language, duration_s=recording.duration_s)

    async def _segments(
        self, physical: str, recording: "_Recording", wanted: TranscriptionOptions
    ) -> AsyncGenerator[Segment, None]:
        found = recording.windows()
        handed_over = False
        try:
            first = await anext(found, None)
            if first is None:
                return

            async def work(runtime: TranscriptionRuntime) -> AsyncGenerator[Segment, None]:
                nonlocal handed_over
                handed_over = True  # a client may leave while a window is made: whoever waits for it closes them
                async with aclosing(found):
                    check(runtime, wanted)
                    async with aclosing(_heard(runtime, first, found, wanted)) as segments:
                        async for segment in segments:
                            yield segment

            async with aclosing(self._leased.stream(physical, work)) as segments:
                async for segment in segments:
                    yield segment
        finally:
            if not handed_over:
                await found.aclose()


def check(runtime: TranscriptionRuntime, wanted: TranscriptionOptions) -> None:
    """Raises InvalidRequest for what this model cannot do."""
    if wanted.language is not None and wanted.language not in runtime.languages:
        raise InvalidRequest(
            f"language {wanted.language!r} is not one that this model knows; it knows {', '.join(runtime.languages)}",
            param="language",
        )
    if wanted.words and not runtime.tells_words:
        raise InvalidRequest(
            "timestamp_granularities: this model does not tell when each word is said; ask for segments",
            param="timestamp_granularities",
        )


class _Recording:
    """A file that is decoded as its windows are asked for. duration_s: of what was decoded so far"""

    def __init__(self, data: bytes) -> None:
        self.duration_s = 0.0
        self._data = data

    async def windows(self) -> AsyncGenerator[Window, None]:
        """Raises InvalidAudio."""
        steps = windows(self._sound())
        while (ended := await asyncio.to_thread(next, steps, None)) is not None:
            for window in ended:
                yield window

    def _sound(self) -> Iterator[Samples]:
        for samples in audio.blocks(self._data, SAMPLE_RATE, max_s=LONGEST_S, size=_BLOCK):
            self.duration_s += len(samples) / SAMPLE_RATE
            yield samples


async def _heard(
    runtime: TranscriptionRuntime,
    first: Window,
    following: AsyncGenerator[Window, None],
    wanted: TranscriptionOptions,
) -> AsyncGenerator[Segment, None]:
    """The segments of all windows, in order; the language of the first words holds for all."""
    language = wanted.language

    async def hear(window: Window) -> list[Segment]:
        samples = await asyncio.to_thread(audio.resample, window.samples, SAMPLE_RATE, runtime.sample_rate)
        found = runtime.transcribe(
            samples, language=language, prompt=wanted.prompt, temperature=wanted.temperature, words=wanted.words
        )
        async with aclosing(found):
            return [placed(segment, window) async for segment in found]

    hearing: deque[asyncio.Task[list[Segment]]] = deque()
    window: Window | None = first
    try:
        while hearing or window is not None:
            if window is not None and len(hearing) < (1 if language is None else _IN_FLIGHT):
                hearing.append(asyncio.create_task(hear(window)))
                window = await anext(following, None)
                continue
            for segment in await hearing.popleft():
                language = language or segment.language
                yield segment
    finally:
        for task in hearing:
            task.cancel()
        await asyncio.gather(*hearing, return_exceptions=True)


def placed(segment: Segment, window: Window) -> Segment:
    """The same, in the time of the recording, and within what the window holds of speech."""

    def moment(second: float) -> float:
        return min(max(window.start_s + second, window.speech_start_s), window.speech_end_s)

    words = tuple(Word(moment(word.start_s), moment(word.end_s), word.text) for word in segment.words)
    return replace(segment, start_s=moment(segment.start_s), end_s=moment(segment.end_s), words=words)


async def _chained(first: Sequence[Segment], following: AsyncGenerator[Segment, None]) -> AsyncGenerator[Segment, None]:
    async with aclosing(following):
        for segment in first:
            yield segment
        async for segment in following:
            yield segment


def _temperature(value: object) -> float:
    try:
        temperature = 0.0 if value is None or value == "" else float(cast(Any, value))
    except (TypeError, ValueError):
        temperature = -1.0
    if not 0 <= temperature <= 1:
        raise InvalidRequest("temperature must be a number from 0 to 1", param="temperature")
    return temperature
