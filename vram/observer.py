"""Who is told what the arbiter does, as it happens."""

from typing import Protocol

from vram.effect import UnloadReason


class Observer(Protocol):
    """Called on the event loop, so no call may block or raise. Models are named by id, durations are seconds."""

    def loaded(self, model: str, took_s: float, predicted_bytes: int, measured_bytes: int | None) -> None:
        """A load finished. predicted_bytes: what it was believed to take when it began; measured_bytes: what the
        device showed that it took, None where that could not be told.
        """

    def evicted(self, model: str, reason: UnloadReason) -> None:
        """A model is being unloaded."""

    def granted(self, model: str, waited_s: float) -> None:
        """A lease began."""

    def refused(self, model: str, kind: str) -> None:
        """A request got no lease. kind: Refused.kind, or "error" for an error of the loader's own."""

    def out_of_memory(self, model: str) -> None:
        """The device had no memory, for a load of the model or while it served."""
