"""What there is to see: the device and its models at one moment."""

from dataclasses import dataclass
from typing import Literal

from vram.model import Task

Phase = Literal["absent", "loading", "resident", "unloading"]


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model at one moment.

    bytes: charged against the budget, or what a load would be charged while the model is absent
    leases: requests that are being served; waiting: requests in its queue
    stuck: its load or unload was given up
    """

    id: str
    task: Task
    phase: Phase
    bytes: int
    leases: int
    waiting: int
    last_used_s: float
    pinned: bool
    stuck: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The device at one moment.

    charged_bytes: held by models
    unreturned_bytes: held by this process beyond its models, such as what unloads left behind
    others_bytes: held by other processes
    available_bytes: what a load could take without any eviction
    """

    budget_bytes: int
    charged_bytes: int
    unreturned_bytes: int
    others_bytes: int
    available_bytes: int
    models: tuple[ModelState, ...]
