"""A simulated GPU that knows the truth: what each model really takes, what came back, and what others hold."""

from collections.abc import Mapping
from typing import Literal

from vram.device import Reading

Tells = Literal["own", "used", "nothing"]
"""What can be read: this process's share too, the whole card's use, or, as with a fixed budget, nothing."""


class Card:
    """All in bytes.

    true_bytes: per model, what it takes once it is loaded; it may grow while it serves
    held_bytes: per model, what it holds now
    late_bytes: given back by an unload, but not back yet; foreign_bytes: held by other processes
    """

    def __init__(self, total_bytes: int, tells: Tells, true_bytes: Mapping[str, int]) -> None:
        self.total_bytes = total_bytes
        self.tells = tells
        self.true_bytes = dict(true_bytes)
        self.held_bytes: dict[str, int] = {}
        self.late_bytes = 0
        self.foreign_bytes = 0

    @property
    def own_bytes(self) -> int:
        return sum(self.held_bytes.values()) + self.late_bytes

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.foreign_bytes - self.own_bytes

    def load(self, model: str) -> bool:
        """Whether the memory was enough."""
        if self.tells != "nothing" and self.true_bytes[model] > self.free_bytes:
            return False
        self.held_bytes[model] = self.true_bytes[model]
        return True

    def grow(self, model: str, more_bytes: int) -> bool:
        """A model that serves takes more. Whether the memory was enough."""
        if more_bytes > self.free_bytes:
            return False
        self.held_bytes[model] += more_bytes
        return True

    def unload(self, model: str, late_bytes: int) -> None:
        """late_bytes of it do not come back yet."""
        self.late_bytes += min(late_bytes, self.held_bytes.pop(model))

    def read(self) -> Reading | None:
        if self.tells == "nothing":
            return None
        own_bytes = self.own_bytes
        return Reading(
            total_bytes=self.total_bytes,
            used_bytes=own_bytes + self.foreign_bytes,
            own_bytes=own_bytes if self.tells == "own" else None,
        )
