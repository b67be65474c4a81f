"""/v1/audio/speech over any SpeechRuntime: sound is encoded and sent while the rest is still being spoken."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, get_args

from llmux.config import Limits
from llmux.errors import InvalidRequest
from providers.audio import CONTENT_TYPES, Encoder, Encoding
from providers.leased import Lender
from providers.runtime import SpeechRuntime

T = TypeVar("T")

DEFAULT_VOICES = frozenset(
    ["default", "alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse"]
)
"""OpenAI's names, which clients hard-code, stand for the model's default voice where it has none of that name."""

_SPEEDS = (0.25, 4.0)

_OPTIONS = ("seed",)
"""Fields beyond OpenAI's that a runtime may know."""


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A checked request for speech.

    options: what only some runtimes understand, such as seed
    """

    text: str
    voice: str
    encoding: Encoding
    speed: float
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Speech:
    """Sound that has begun. Close `chunks` to stop it."""

    content_type: str
    chunks: AsyncGenerator[bytes, None]


def parse(request: Mapping[str, Any], *, longest: int) -> SpeechRequest:
    """Check OpenAI's fields; others are ignored. Raises InvalidRequest.

    longest: most characters of input
    """
    text = request.get("input")
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest("input must hold the text to speak", param="input")
    if len(text) > longest:
        raise InvalidRequest(
            f"input is {len(text)} characters long; at most {longest} are spoken at one time", param="input"
        )
    voice = request.get("voice") or "default"
    if not isinstance(voice, str):
        raise InvalidRequest("voice must be a name", param="voice")
    encoding = request.get("response_format") or "mp3"
    if encoding not in get_args(Encoding):
        raise InvalidRequest(
            f"response_format {encoding!r} is not available; there are {', '.join(get_args(Encoding))}",
            param="response_format",
        )
    if (request.get("stream_format") or "audio") != "audio":
        raise InvalidRequest(
            "stream_format must be 'audio': events ('sse') are not available yet", param="stream_format"
        )
    return SpeechRequest(
        text=text,
        voice=voice,
        encoding=cast(Encoding, encoding),
        speed=_speed(request.get("speed")),
        options={name: request[name] for name in _OPTIONS if request.get(name) is not None},
    )


def choose_voice(wanted: str, known: tuple[str, ...]) -> str:
    """A name that the runtime answers to. Raises InvalidRequest, naming what there is."""
    for name in (wanted, wanted.lower()):
        if name in known:
            return name
    if wanted.lower() in DEFAULT_VOICES:
        return "default"
    raise InvalidRequest(
        f"the voice {wanted!r} is not available; there are {', '.join(('default', *known))}", param="voice"
    )


class SpeechProvider:
    """Answers /v1/audio/speech."""

    def __init__(self, leased: Lender, limits: Limits) -> None:
        self._leased = leased
        self._limits = limits

    async def speak(self, physical: str, request: Mapping[str, Any]) -> Speech:
        """Speech whose first bytes are there, so that whatever goes wrong before them still has its status.

        Raises InvalidRequest, or what leasing and running the model raise.
        """
        wanted = parse(request, longest=self._limits.speech_characters)
        chunks = self._leased.stream(physical, lambda runtime: _encoded(runtime, wanted))
        try:
            first = await anext(chunks, b"")
        except BaseException:
            await chunks.aclose()
            raise
        return Speech(CONTENT_TYPES[wanted.encoding], _with_first(first, chunks))


async def _encoded(runtime: SpeechRuntime, wanted: SpeechRequest) -> AsyncGenerator[bytes, None]:
    voice = choose_voice(wanted.voice, tuple(runtime.voices))
    encoder = Encoder(wanted.encoding, runtime.sample_rate)
    pieces = runtime.synthesize(wanted.text, voice=voice, speed=wanted.speed, options=wanted.options)
    async with aclosing(pieces):
        async for samples in pieces:
            if chunk := await asyncio.to_thread(encoder.encode, samples):
                yield chunk
    if chunk := await asyncio.to_thread(encoder.finish):
        yield chunk


async def _with_first(first: bytes, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        yield first
        async for chunk in chunks:
            yield chunk


def _speed(value: object) -> float:
    slowest, fastest = _SPEEDS
    try:
        speed = 1.0 if value is None or value == "" else float(cast(Any, value))
    except (TypeError, ValueError):
        speed = 0.0
    if not slowest <= speed <= fastest:
        raise InvalidRequest(f"speed must be a number from {slowest:g} to {fastest:g}", param="speed")
    return speed
