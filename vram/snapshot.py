"""What there is to see: the device and its models at one moment."""

from dataclasses import dataclass
from typing import Literal

from vram.model import Task

Phase = Literal["absent", "loading", "resident", "unloading"]

WaitingFor = Literal["queue", "eviction", "load"]


@dataclass(frozen=True, slots=True)
class Wait:
    """What one request waits for.

    position: 1 is served next; requests for models that are swapped in earlier count too
    waiting_for: its turn, room for its model, or the load of its model
    load_percent: how far that load is, by the time that such loads took; None unless it is under way and known
    expected_s: seconds until its model is resident, from measured load times; None where none is known, and while it
        waits for other requests of a resident model, whose length nobody knows
    """

    position: int
    waiting_for: WaitingFor
    load_percent: int | None
    expected_s: float | None


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model at one moment.

    bytes: charged against the budget, or what a load would be charged while the model is absent
    predicted_bytes: what the files say that it takes, or the estimate where they say nothing
    measured_bytes: the most that the device was seen to hold for it, at load or while it served; None until measured
    leases: requests that are being served; waiting: requests in its queue
    queue: what each of them waits for, oldest first
    last_used_s_ago: seconds since it was loaded or last served, whichever is less; None if it never was
    stuck: its load or unload was given up
    load_percent: as in Wait; None unless loading
    """

    id: str
    task: Task
    phase: Phase
    bytes: int
    leases: int
    waiting: int
    last_used_s_ago: float | None
    pinned: bool
    stuck: bool
    predicted_bytes: int
    measured_bytes: int | None = None
    load_percent: int | None = None
    queue: tuple[Wait, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The device at one moment.

    charged_bytes: held by models
    unreturned_bytes: held by this process beyond its models, such as what unloads left behind
    others_bytes: held by other processes
    available_bytes: what a load could take without any eviction
    device_error: why the device cannot be read at present; None while it answers. Loads are refused meanwhile.
    """

    budget_bytes: int
    charged_bytes: int
    unreturned_bytes: int
    others_bytes: int
    available_bytes: int
    models: tuple[ModelState, ...]
    device_error: str | None = None
