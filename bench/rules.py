"""mission.md's rules of eviction, found by trying every length of every prefix: the yardstick for vram.policy.

Shares no code with it, on purpose.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Present:
    """A model on the device that may leave some day.

    rank: of its class; asr is above tts, and tts above llm
    busy: it serves or loads
    wanted_by: the oldest ticket that waits for it; None: nobody
    lingers: kept for a while, for whoever may be back for it
    """

    name: str
    rank: int
    used_s: float
    bytes: int
    busy: bool
    pinned: bool
    wanted_by: int | None
    lingers: bool = False


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A model that is not there, and the oldest ticket that waits for it.

    overdue: it has waited for its max_wait_s
    begins: there is room, and it begins to load: whoever comes after it may wait for it as for a busy model
    """

    name: str
    rank: int
    used_s: float
    bytes: int
    pinned: bool
    ticket: int
    overdue: bool
    begins: bool

    def arrived(self) -> Present:
        return Present(self.name, self.rank, self.used_s, self.bytes, True, self.pinned, self.ticket)


def overdraft(present: Iterable[Present], over_bytes: int) -> list[Present]:
    """Who leaves when the models together proved larger than the budget by so much: all idle ones if need be."""
    idle = [model for model in _order(present) if not model.busy and model.wanted_by is None]
    return _shortest(idle, over_bytes) or idle


def evictions(present: Sequence[Present], newcomers: Iterable[Newcomer], free_bytes: int) -> list[Present]:
    """Who leaves now, so that the newcomers fit, in the order in which newcomers are served.

    free_bytes: what is free once all that is leaving already has left
    """
    evicted: list[Present] = []
    order = _order(present)
    for newcomer in sorted(newcomers, key=lambda new: (not new.overdue, 0 if new.overdue else -new.rank, new.ticket)):
        missing_bytes = newcomer.bytes - free_bytes
        if missing_bytes > 0:
            idle = [model for model in order if not model.busy and _may_go(model, newcomer)]
            leaving = _shortest(idle, missing_bytes)
            if leaving is None:
                if _shortest(order, missing_bytes) is None:
                    continue
                return evicted  # it waits for busy ones, and what is idle is part of its room
            highest = max(model.rank for model in leaving)
            lower = [model for model in order if model.rank < highest]
            if highest > newcomer.rank and not newcomer.overdue and _shortest(lower, missing_bytes) is not None:
                return evicted
            if not newcomer.overdue and any(model.lingers and model.rank >= newcomer.rank for model in leaving):
                return evicted
            evicted += leaving
            order = [model for model in order if model not in leaving]
            free_bytes += sum(model.bytes for model in leaving)
        free_bytes -= newcomer.bytes
        if newcomer.begins:
            order = _order([*order, newcomer.arrived()])
    return evicted


def linger_s(gaps_s: Sequence[float], load_s: float) -> float:
    """One and a half times the limit that would have cost least over these gaps, and no longer than a load."""

    def cost_s(limit_s: float) -> float:
        return sum(gap_s if gap_s <= limit_s else limit_s + load_s for gap_s in gaps_s)

    best_s = min([0.0, *sorted(gaps_s)], key=cost_s)
    return min(1.5 * best_s, load_s)


def _order(present: Iterable[Present]) -> list[Present]:
    """Lowest class first, and in it the least recently used."""
    return sorted((model for model in present if not model.pinned), key=lambda model: (model.rank, model.used_s))


def _may_go(model: Present, newcomer: Newcomer) -> bool:
    """One that is wanted stays for those who want it, unless an overdue newcomer came before them all."""
    return model.wanted_by is None or (newcomer.overdue and newcomer.ticket < model.wanted_by)


def _shortest(order: Sequence[Present], missing_bytes: int) -> list[Present] | None:
    for count in range(len(order) + 1):
        if sum(model.bytes for model in order[:count]) >= missing_bytes:
            return list(order[:count])
    return None
