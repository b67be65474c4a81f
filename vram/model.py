"""What the arbiter knows about a physical model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Task = Literal["asr", "tts", "llm"]

PRIORITY: Mapping[Task, int] = {"llm": 0, "tts": 1, "asr": 2}
"""The higher goes first as a waiter and leaves last as a resident."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A physical model, as configured.

    estimate_bytes: what it occupies on the device, believed until a load was measured
    max_concurrency: leases at one time
    ledger_key: what its memory depends on (weights, context, parallel sequences); None stands for the id
    pinned: never evicted once it is resident
    """

    id: str
    task: Task
    estimate_bytes: int
    max_concurrency: int = 1
    ledger_key: str | None = None
    pinned: bool = False
