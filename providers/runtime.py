"""What a runtime is to everything above it.

A runtime holds one loaded model and answers one task. Nothing above this module may assume that it lives in this
process: arguments and results are plain values, every call is asynchronous, and closing an iterator early means
"stop now". A runtime finishes its native work before an iterator's `aclose` returns, so that whoever holds the lease
can give it back knowing that the device is idle.

Each runtime module offers `async def load(model, folder) -> Runtime`, where `model` is its entry in the
configuration and `folder` holds its weights.

A device that is full is a MemoryError, from `load` as from any iterator: the arbiter makes room and tries a load once
more, and loads a model afresh that ran out of memory while it served. A device that this process can use no more, as
after a device-side assert, is a vram.refusal.DeviceFailed: the process ends, and its supervisor starts it again.
`worker.Worker` sees to both for its jobs.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""Mono sound in [-1, 1], shape (samples,)."""

Image = npt.NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""

FinishReason = Literal["stop", "length", "tool_calls"]


class Runtime(Protocol):
    """One loaded model."""

    async def close(self) -> None:
        """Give back all memory. No iterator is open when this is called."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick tokens; None leaves the choice to the model's own defaults.

    max_tokens: most tokens to generate; None means until the context is full
    temperature: 0 is greedy
    top_k: only the likeliest so many; 0 means all
    min_p: only those at least so likely as this share of the likeliest
    frequency_penalty, presence_penalty: as OpenAI defines them, over the tokens of the answer
    repetition_penalty: divides the logits of tokens seen in prompt and answer (Keskar et al. 2019)
    logit_bias: added to the logits of these token ids
    grammar: what the output must match, as `providers.constraint` writes grammars
    logprobs: how many likely tokens to report beside each one that was picked; None reports nothing
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    grammar: str | None = None
    logprobs: int | None = None


Alternative = tuple[str, bytes, float]
"""A token that might have stood in the place of another: its text, its bytes, its logprob."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was, by the model's own distribution.

    token: its text; bytes: what it stands for, which may be a part of a character
    top: the likeliest tokens in its place, likeliest first
    """

    token: str
    bytes: bytes
    logprob: float
    top: Sequence[Alternative]


@dataclass(frozen=True, slots=True)
class Piece:
    """Text as it is generated. Whole characters only: a runtime holds back an unfinished UTF-8 sequence. Control tokens
    stand in it by their text, but for the one that ended the answer.

    tokens: how many tokens this piece stands for
    prompt_tokens: length of the prompt, the same on every piece: a reader may stop before the last
    finish_reason: set on the last piece alone (whose text may be empty)
    logprobs: one for each of its tokens, where they were asked for
    cached_tokens: how much of the prompt was not computed again, the same on every piece
    """

    text: str
    tokens: int
    prompt_tokens: int
    finish_reason: FinishReason | None = None
    logprobs: Sequence[TokenLogprob] = ()
    cached_tokens: int = 0


@runtime_checkable
class ChatRuntime(Runtime, Protocol):
    """A language model.

    chat_template: the model's own Jinja template
    special_tokens: what the template may name, such as bos_token and eos_token
    control_tokens: every text that steers the model where it stands for a token, such as <|im_end|>
    image_token: what the template writes for an image; None: the model sees no images
    context: longest prompt and answer together, in tokens
    """

    chat_template: str
    special_tokens: Mapping[str, str]
    control_tokens: Collection[str]
    image_token: str | None
    context: int

    def generate(self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()) -> AsyncGenerator[Piece, None]:
        """Continue a prompt rendered by providers.dialect, whose spans are tokenised one by one.

        images: one for each image_token in the prompt, in their order
        Raises ContextLengthExceeded before the first piece.
        """


@dataclass(frozen=True, slots=True)
class Word:
    """One word and when it was said, in seconds from the start of the recording; punctuation belongs to it."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """What was said between two moments, in seconds from the start of the recording.

    text: as it continues what came before, its leading space included: the texts of all segments, joined by nothing,
        are the transcript
    language: ISO 639-1 code of what was heard
    words: where they were asked for
    """

    start_s: float
    end_s: float
    text: str
    language: str
    words: tuple[Word, ...] = ()


@runtime_checkable
class TranscriptionRuntime(Runtime, Protocol):
    """Speech recognition.

    sample_rate: what `transcribe` takes, in Hz
    languages: ISO 639-1 codes that it knows
    tells_words: whether it knows when each word was said
    """

    sample_rate: int
    languages: Sequence[str]
    tells_words: bool

    def transcribe(
        self, samples: Samples, *, language: str | None, prompt: str | None, temperature: float, words: bool = False
    ) -> AsyncGenerator[Segment, None]:
        """Segments in order, each as soon as it is known. language None: detect, or the model's default.

        Several may be open at one time; a runtime that can do so hears them together.
        """


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording whose voice can be taken over.

    path: of the recording, which the runtime reads
    language: ISO 639-1 code of what that voice speaks where nobody says otherwise
    """

    name: str
    path: str
    language: str | None = None


@runtime_checkable
class SpeechRuntime(Runtime, Protocol):
    """Speech synthesis.

    sample_rate: what `synthesize` yields, in Hz
    voices: names it answers to beside "default"
    clones: whether it speaks with the voice of a Clip
    """

    sample_rate: int
    voices: Sequence[str]
    clones: bool

    def synthesize(
        self, text: str, *, voice: str | Clip, speed: float, options: Mapping[str, Any]
    ) -> AsyncGenerator[Samples, None]:
        """Sound piece by piece, the first as early as possible, each ready to be followed by the next.

        Raises InvalidRequest before the first piece for options that the model does not take.
        """
