"""Who leaves so that this one fits, when, and who is served next.

Pure functions of what they are given: no clock, no I/O, no logging, because they are also asked speculatively.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from vram.model import PRIORITY, Task

_LONGER = 1.5
"""A model lingers for so many times the gap that it is expected back after, for no two gaps are alike."""


class Resident(NamedTuple):
    """A model on the device. A busy or a pinned one is never evicted; a busy one can be waited for.

    lingers: it became idle a moment ago, and somebody is likely to be back for it
    """

    id: str
    task: Task
    bytes: int
    last_used_s: float
    busy: bool
    pinned: bool
    lingers: bool = False


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
    """Who leaves for a newcomer. now: at once; otherwise those of them that are busy or linger are waited for first."""

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

    Unless it is overdue, it does not push out an idle one of a higher class while busy ones of a class below that would
    do, nor one of its own class or a higher one while that lingers.
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
    lingering = any(resident.lingers and PRIORITY[resident.task] >= PRIORITY[task] for resident in idle)
    return Plan(idle, now=overdue or not lingering)


def linger_s(gaps_s: Collection[float], load_s: float) -> float:
    """How long a model that became idle is worth keeping from others, when to load it again takes load_s.

    gaps_s: how long it was idle before each of its last requests. Had it been kept for a limit each time, every
    shorter gap would have cost the others as long as it was, and every longer one the limit and a load. The best limit
    is the gap that makes this least; 0 when they were too long for any to pay. Never more than load_s, so that it
    cannot cost more than twice what a clairvoyant would pay.

    This is the ski rental problem with a known past (Karlin, Manasse, McGeoch and Owicki, "Competitive Randomized
    Algorithms for Nonuniform Problems", Algorithmica 1994), applied as in anticipatory scheduling (Iyer and Druschel,
    "Anticipatory scheduling: a disk scheduling framework to overcome deceptive idleness", SOSP 2001).
    """
    best_s, least_s = 0.0, load_s * len(gaps_s)
    shorter_s = 0.0
    for count, gap_s in enumerate(sorted(gaps_s), start=1):
        shorter_s += gap_s
        cost_s = shorter_s + (len(gaps_s) - count) * (gap_s + load_s)
        if cost_s < least_s:
            best_s, least_s = gap_s, cost_s
    return min(_LONGER * best_s, load_s)


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
