"""What the model families of speech recognition have in common."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from providers.batch import Row
from providers.runtime import Samples, Segment
from providers.worker import Cancelled

SAMPLE_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Sound:
    """What a model is to hear in one step.

    samples: at most 30 s
    language: None only where the model detects it
    prompt: what is to be taken for said before
    words: whether their times are wanted
    """

    samples: Samples
    language: str | None
    prompt: str | None
    temperature: float
    words: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said, in seconds from the start of the step. taken: samples that need not be heard again, at least 1"""

    segments: Sequence[Segment]
    taken: int


class Recognizer(Protocol):
    """A loaded model, used from its worker's thread alone.

    alike: sounds of which this is equal can be heard together
    """

    languages: Sequence[str]
    detects_language: bool
    tells_words: bool

    def alike(self, sound: Sound) -> Hashable: ...

    def hear(self, rows: Sequence[Row[Sound]]) -> Sequence[Heard]: ...


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def stop_when(cancelled: Sequence[Cancelled]) -> Any:
    """A stopping criterion that is asked after every token, one flag a row."""
    import torch
    from transformers import StoppingCriteriaList

    def stop(input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.tensor([flag.is_set() for flag in cancelled], device=input_ids.device)

    return StoppingCriteriaList([stop])
