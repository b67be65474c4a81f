"""Loads what is to be there from the start, as far as there is room."""

import logging
from collections.abc import Iterable
from typing import Any, Protocol

from vram.model import PRIORITY, ModelSpec
from vram.refusal import Stopping
from vram.snapshot import Snapshot

_log = logging.getLogger(__name__)


class Loads(Protocol):
    """Whoever can load a model: vram.arbiter.Arbiter."""

    async def load(self, model: str) -> Any: ...

    def snapshot(self) -> Snapshot: ...


async def preload(arbiter: Loads, models: Iterable[ModelSpec]) -> None:
    """Load those that say so, the highest class first, one after the other. Nothing is evicted for it, and a model that
    does not fit beside what others wait for, or does not load, costs a line in the log.
    """
    wanted = sorted((spec for spec in models if spec.preload), key=lambda spec: -PRIORITY[spec.task])
    for spec in wanted:
        needed_bytes, spare_bytes = room(arbiter.snapshot(), spec.id)
        if needed_bytes > spare_bytes:
            _log.warning(
                "%s is not preloaded: it takes %.2f GB, and %.2f GB are free",
                spec.id,
                needed_bytes / 1e9,
                max(0, spare_bytes) / 1e9,
            )
            continue
        try:
            await arbiter.load(spec.id)
        except Stopping:
            return
        except Exception as error:
            _log.warning("%s was not preloaded: %s", spec.id, type(error).__name__)


def room(snapshot: Snapshot, model: str) -> tuple[int, int]:
    """What a load of the model takes now, and what is free beside the loads that others wait for, in bytes."""
    absent = {state.id: state for state in snapshot.models if state.phase == "absent"}
    awaited_bytes = sum(state.bytes for state in absent.values() if state.waiting and state.id != model)
    return absent[model].bytes if model in absent else 0, snapshot.available_bytes - awaited_bytes
