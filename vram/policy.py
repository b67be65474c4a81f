"""Who leaves so that this one fits, and who is served next.

Pure functions of what they are given: no clock, no I/O, no logging, because they are also asked speculatively.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vram.model import PRIORITY, Task


class Resident(NamedTuple):
    """A model on the device. A busy or a pinned one is never evicted; a busy one can be waited for."""

    id: str
    task: Task
    bytes: int
    last_used_s: float
    busy: bool
    pinned: bool


class Waiter(NamedTuple):
    """The oldest request that waits for a model which is not resident.

    ticket: place in the order of arrival, smaller is earlier
    overdue: it has waited for its max_wait_s
    """

    model: str
    task: Task
    ticket: int
    overdue: bool


class Plan(NamedTuple):
    """Who leaves for a newcomer. now: all of them are idle; otherwise the busy ones are waited for first."""

    victims: tuple[Resident, ...]
    now: bool


def eviction_order(residents: Iterable[Resident]) -> list[Resident]:
    """First to go first: the lowest class, and within a class the least recently used. Pinned ones never go."""
    return sorted(
        (resident for resident in residents if not resident.pinned),
        key=lambda resident: (PRIORITY[resident.task], resident.last_used_s),
    )


def evictions(residents: Iterable[Resident], missing_bytes: int) -> tuple[Resident, ...] | None:
    """The shortest prefix of the idle models' eviction order that frees missing_bytes; None when all are too few."""
    return _prefix([resident for resident in eviction_order(residents) if not resident.busy], missing_bytes)


def make_room(task: Task, missing_bytes: int, residents: Sequence[Resident], *, overdue: bool) -> Plan | None:
    """How a newcomer gets missing_bytes more; None when not even all that may leave would free them.

    A lower class does not push out an idle higher one while busy ones of a class below that would do, unless the
    newcomer is overdue.
    """
    order = eviction_order(residents)
    idle = _prefix([resident for resident in order if not resident.busy], missing_bytes)
    if idle is None:
        everyone = _prefix(order, missing_bytes)
        return None if everyone is None else Plan(everyone, now=False)
    highest = max((PRIORITY[resident.task] for resident in idle), default=0)
    if highest > PRIORITY[task] and not overdue:
        lower = _prefix([resident for resident in order if PRIORITY[resident.task] < highest], missing_bytes)
        if lower is not None:
            return Plan(lower, now=False)
    return Plan(idle, now=True)


def serving_order(waiters: Iterable[Waiter]) -> list[Waiter]:
    """Overdue waiters by arrival, then the others by class and arrival."""
    return sorted(
        waiters,
        key=lambda waiter: (not waiter.overdue, 0 if waiter.overdue else -PRIORITY[waiter.task], waiter.ticket),
    )


def _prefix(order: Sequence[Resident], missing_bytes: int) -> tuple[Resident, ...] | None:
    freed = 0
    for count, resident in enumerate(order):
        if freed >= missing_bytes:
            return tuple(order[:count])
        freed += resident.bytes
    return tuple(order) if freed >= missing_bytes else None
