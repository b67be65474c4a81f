"""What llama.cpp had computed after beginnings of prompts, in RAM and bounded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


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

    def __iter__(self) -> Iterator[T]:
        return (each.state for each in self._kept)

    def __contains__(self, prefix: Sequence[int]) -> bool:
        return any(each.prefix == prefix for each in self._kept)

    def keep(self, prefix: Sequence[int], state: T, size_bytes: int) -> None:
        """In place of what is kept for the same prefix."""
        self._kept = [each for each in self._kept if each.prefix != prefix]
        if size_bytes <= self._most_bytes:
            self.make_room(size_bytes)
            self._kept.append(_Kept(list(prefix), state, size_bytes))

    def make_room(self, size_bytes: int) -> None:
        """For a state that is about to be made."""
        while self._kept and self.bytes + size_bytes > self._most_bytes:
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
