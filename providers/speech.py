"""/v1/audio/speech over any SpeechRuntime: sound is encoded and sent while the rest is still being spoken."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from llmux.config import Limits
from llmux.errors import InvalidRequest
from providers.audio import CONTENT_TYPES, Encoder, Encoding
from providers.leased import Lender
from providers.runtime import Clip, SpeechRuntime

StreamFormat = Literal["audio", "sse"]

EVENTS_TYPE = "text/event-stream"

DEFAULT_VOICES = frozenset(
    ["default", "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer",
     "verse"]
)  # fmt: skip
"""OpenAI's names, which clients hard-code, stand for the model's default voice where it has none of that name."""

_SPEEDS = (0.25, 4.0)

_OPTIONS = ("cfg_weight", "exaggeration", "language", "seed", "temperature")
"""Fields beyond OpenAI's that a runtime may know."""


_CHUNK_BYTES = 65_536
"""At most this is sent at one time: so much, times a number, is kept for a client that reads slowly."""


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A checked request for speech.

    options: what only some runtimes understand, such as seed
    """

    text: str
    voice: str
    encoding: Encoding
    speed: float
    stream_format: StreamFormat = "audio"
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
    return SpeechRequest(
        text=text,
        voice=voice,
        encoding=cast(Encoding, _one_of(request, "response_format", get_args(Encoding), "mp3")),
        speed=_speed(request.get("speed")),
        stream_format=cast(StreamFormat, _one_of(request, "stream_format", get_args(StreamFormat), "audio")),
        options={name: request[name] for name in _OPTIONS if request.get(name) not in (None, "")},
    )


def choose_voice(wanted: str, known: Iterable[str], clips: Mapping[str, Clip]) -> str | Clip:
    """A name that the runtime answers to, or a clip. Raises InvalidRequest, naming what there is.

    known: the runtime's own voices; clips: those it can take over
    """
    own = {name.lower(): name for name in known}
    taken_over = {name.lower(): clip for name, clip in clips.items()}
    if wanted.lower() in taken_over:
        return taken_over[wanted.lower()]
    if wanted.lower() in own:
        return own[wanted.lower()]
    if wanted.lower() in DEFAULT_VOICES:
        return "default"
    there_are = ", ".join(("default", *clips, *own.values()))
    raise InvalidRequest(f"the voice {wanted!r} is not available; there are {there_are}", param="voice")


class SpeechProvider:
    """Answers /v1/audio/speech.

    clips: voices that models can take over, by name
    """

    def __init__(self, leased: Lender, limits: Limits, clips: Mapping[str, Clip]) -> None:
        self._leased = leased
        self._limits = limits
        self._clips = clips

    async def speak(self, physical: str, request: Mapping[str, Any]) -> Speech:
        """Speech whose first bytes are there, so that whatever goes wrong before them still has its status.

        Raises InvalidRequest, or what leasing and running the model raise.
        """
        wanted = parse(request, longest=self._limits.speech_characters)
        chunks = self._leased.stream(physical, lambda runtime: _encoded(runtime, wanted, self._clips))
        try:
            first = await anext(chunks, b"")
        except BaseException:
            await chunks.aclose()
            raise
        sound = _with_first(first, chunks)
        if wanted.stream_format == "sse":
            return Speech(EVENTS_TYPE, _events(sound, characters=len(wanted.text)))
        return Speech(CONTENT_TYPES[wanted.encoding], sound)


async def _encoded(
    runtime: SpeechRuntime, wanted: SpeechRequest, clips: Mapping[str, Clip]
) -> AsyncGenerator[bytes, None]:
    voice = choose_voice(wanted.voice, runtime.voices, clips if runtime.clones else {})
    encoder = Encoder(wanted.encoding, runtime.sample_rate)
    pieces = runtime.synthesize(wanted.text, voice=voice, speed=wanted.speed, options=wanted.options)
    async with aclosing(pieces):
        async for samples in pieces:
            if encoder.compresses:
                sound = await asyncio.to_thread(encoder.encode, samples)
            else:  # a thread would wait for the model's, which may hold Python for longer than this takes
                sound = encoder.encode(samples)
            for chunk in _chunks(sound):
                yield chunk
    for chunk in _chunks(await asyncio.to_thread(encoder.finish)):
        yield chunk


def _chunks(sound: bytes) -> Iterator[bytes]:
    return (sound[start : start + _CHUNK_BYTES] for start in range(0, len(sound), _CHUNK_BYTES))


async def _with_first(first: bytes, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        yield first
        async for chunk in chunks:
            yield chunk


async def _events(sound: AsyncGenerator[bytes, None], *, characters: int) -> AsyncGenerator[bytes, None]:
    """OpenAI's events. Tokens are counted as its older voices are: one a character of input, none of output."""
    async with aclosing(sound):
        async for chunk in sound:
            yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(chunk).decode("ascii")})
    usage = {"input_tokens": characters, "output_tokens": 0, "total_tokens": characters}
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(data: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _one_of(request: Mapping[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    value = request.get(name) or default
    if value not in known:
        raise InvalidRequest(f"{name} {value!r} is not available; there are {', '.join(known)}", param=name)
    return str(value)


def _speed(value: object) -> float:
    slowest, fastest = _SPEEDS
    try:
        speed = 1.0 if value is None or value == "" else float(cast(Any, value))
    except (TypeError, ValueError):
        speed = 0.0
    if not slowest <= speed <= fastest:
        raise InvalidRequest(f"speed must be a number from {slowest:g} to {fastest:g}", param="speed")
    return speed
