"""What the scheduler wants done."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """Bring the model onto the device, then tell `loaded` or `load_failed`."""

    model: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Take it off, then tell `unloaded`."""

    model: str


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
