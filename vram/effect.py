"""What the scheduler wants done."""

from dataclasses import dataclass
from typing import Literal

UnloadReason = Literal["room", "idle", "asked", "stopping", "reload"]
"""Why a model leaves: others need its room, nobody used it for idle_unload_s (or its load came after it was given up),
somebody asked for it, the arbiter stops, or it ran out of memory while it served and must be loaded afresh.
"""


@dataclass(frozen=True, slots=True)
class Load:
    """Bring the model onto the device, then tell `loaded` or `load_failed`."""

    model: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Take it off, then tell `unloaded`."""

    model: str
    reason: UnloadReason


@dataclass(frozen=True, slots=True)
class Grant:
    """The lease that was asked for with this ticket begins."""

    ticket: int
    model: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """There will be no lease for this ticket."""

    ticket: int
    error: BaseException


Effect = Load | Unload | Grant | Refuse
