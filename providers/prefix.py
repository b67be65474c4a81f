"""Beginnings of prompts that need not be computed again: the conversation so far, the same system prompt and tools.

A prompt is a list of items here: a token is its number, and an image a negative number made of all its pixels, so that
two images are the same item only if they are the same image.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from providers.runtime import Image

T = TypeVar("T")

WORTH = 64
"""Tokens that are worth a wait for somebody else's prompt, or the keeping of a state."""


def image_item(image: Image) -> int:
    digest = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()
    return -1 - int.from_bytes(digest, "big")


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many items both begin with."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(index for index in range(length) if one[index] != other[index])


def borders(prompt: Sequence[int], control: Collection[int]) -> list[int]:
    """Where states are worth keeping: before the model's own turn, which the next prompt of this conversation does not
    repeat as it stands here, and after the first message, which other conversations begin with too.

    control: tokens that steer the model; the last of them in a prompt begins the model's turn
    """
    turn = next((index for index in reversed(range(len(prompt))) if prompt[index] in control), 0)
    if not turn:
        return []
    turns = [index for index in range(turn + 1) if prompt[index] == prompt[turn]]
    return sorted({border for border in (turns[1] if len(turns) > 1 else turn, turn) if border >= WORTH})


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    prefix: Sequence[int]
    state: T
    bytes: int


class KeptStates(Generic[T]):
    """States in which a model was after the beginnings of prompts; of what is too much, the least recently used go.

    most_bytes: what all of them may take
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: list[_Kept[T]] = []
        """Least recently used first."""

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self._kept)

    def __contains__(self, prefix: Sequence[int]) -> bool:
        return any(each.prefix == prefix for each in self._kept)

    def keep(self, prefix: Sequence[int], state: T, size_bytes: int) -> None:
        """In place of what is kept for the same prefix."""
        self._kept = [each for each in self._kept if each.prefix != prefix]
        if size_bytes <= self._most_bytes:
            self._kept.append(_Kept(list(prefix), state, size_bytes))
        while self.bytes > self._most_bytes:
            del self._kept[0]

    def longest(self, prompt: Sequence[int]) -> tuple[int, T] | None:
        """The state after the longest beginning of this prompt that is kept, and how many items it is long. At least
        one item is always left: what follows a prompt is only known by computing its last one.
        """
        fitting = [
            each for each in self._kept if len(each.prefix) < len(prompt) and each.prefix == prompt[: len(each.prefix)]
        ]
        if not fitting:
            return None
        best = max(fitting, key=lambda each: len(each.prefix))
        self._kept.remove(best)
        self._kept.append(best)
        return len(best.prefix), best.state

    def drop(self, unwanted: Callable[[Sequence[int]], bool]) -> None:
        """Those of prefixes that are no longer of use."""
        self._kept = [each for each in self._kept if not unwanted(each.prefix)]
