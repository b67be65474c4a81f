"""Speech, its transcript, and an answer about it: three models, one address, the official openai SDK."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import openai
from openai.types.chat import ChatCompletionChunk

SENTENCE = "On Monday we met in London."
KEY_WORDS = frozenset({"monday", "london"})

_WAV_HEADER_BYTES = 44


class StepFailed(Exception):
    """A step came to an end, but not to the right one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did, for the person who watches.

    first_byte_s, total_s: seconds from sending the request to its answer's first and last byte (a chat's first token)
    """

    request: str
    model: str
    sent: str
    received: str
    first_byte_s: float
    total_s: float


class Clock:
    """Times an answer as it arrives."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self.first_byte_s = 0.0

    @property
    def total_s(self) -> float:
        return time.monotonic() - self._began_s

    def timed(self, parts: Iterable[Any]) -> Iterator[Any]:
        """The same parts; the first one is noted."""
        for part in parts:
            if not self.first_byte_s:
                self.first_byte_s = self.total_s
            yield part


def speak(client: openai.OpenAI) -> tuple[Outcome, bytes]:
    """The sentence as a WAV file."""
    clock = Clock()
    with client.audio.speech.with_streaming_response.create(
        model="Hibari", voice="default", input=SENTENCE, response_format="wav"
    ) as response:
        sound = b"".join(clock.timed(response.iter_bytes()))
    received = f"{seconds_of(sound):.1f} s of sound, {len(sound) // 1000} kB of WAV"
    outcome = Outcome("/v1/audio/speech", "Hibari", SENTENCE, received, clock.first_byte_s, clock.total_s)
    return outcome, sound


def transcribe(client: openai.OpenAI, sound: bytes) -> tuple[Outcome, str]:
    """What was said. Raises StepFailed when the key words are lost."""
    clock = Clock()
    with client.audio.transcriptions.with_streaming_response.create(
        model="Whisper-Base", file=("speech.wav", sound)
    ) as response:
        body = b"".join(clock.timed(response.iter_bytes()))
    transcript = str(json.loads(body)["text"]).strip()
    if lost := lost_words(transcript):
        raise StepFailed(f"the transcript lost {', '.join(sorted(lost))}: {transcript!r}")
    outcome = Outcome(
        "/v1/audio/transcriptions", "Whisper-Base", "that sound", transcript, clock.first_byte_s, clock.total_s
    )
    return outcome, transcript


def chat(client: openai.OpenAI, transcript: str, show: Callable[[str], None]) -> Outcome:
    """An answer about the transcript. show: told each piece of it as it comes. Raises StepFailed when there is none."""
    question = f'I heard: "{transcript}" Which city was that? Say one thing about it.'
    clock = Clock()
    stream = client.chat.completions.create(
        model="SmolLM2-135M",
        messages=[{"role": "user", "content": question}],
        max_tokens=60,
        temperature=0,
        stream=True,
    )
    pieces = []
    for piece in clock.timed(filter(None, map(_text, stream))):
        show(piece)
        pieces.append(piece)
    if not pieces:
        raise StepFailed("the chat model said nothing")
    received = "".join(pieces).strip()
    return Outcome("/v1/chat/completions", "SmolLM2-135M", question, received, clock.first_byte_s, clock.total_s)


def _text(chunk: ChatCompletionChunk) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def seconds_of(wav: bytes) -> float:
    """How long 16-bit PCM sounds. From its size, not its header, which a stream sends before it knows. StepFailed."""
    if len(wav) <= _WAV_HEADER_BYTES or wav[:4] != b"RIFF":
        raise StepFailed("the speech is not a WAV file")
    bytes_per_s = int.from_bytes(wav[28:32], "little")
    return (len(wav) - _WAV_HEADER_BYTES) / bytes_per_s


def lost_words(transcript: str) -> frozenset[str]:
    """The key words of the sentence that the transcript does not have."""
    heard = transcript.lower()
    return frozenset(word for word in KEY_WORDS if word not in heard)


def check_eviction(readings: list[Mapping[str, Any]]) -> None:
    """Chat must have pushed out the speech, and nothing else. readings: GET /health before and after each step.

    Raises StepFailed.
    """
    evicted = [
        name
        for before, after in pairwise(readings)
        for name in before["loaded_models"]
        if name not in after["loaded_models"]
    ]
    if evicted != ["hibari"]:
        raise StepFailed(f"expected one eviction, that of hibari; evicted were: {', '.join(evicted) or 'none'}")
