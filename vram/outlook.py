"""What there is to see, and what those who wait or were turned away may expect, from measured load times and the queue.

Pure functions of the scheduler's state.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from vram import policy
from vram.refusal import NeverFits, OutOfMemory, Refused
from vram.slot import Slot
from vram.snapshot import ModelState, Snapshot, Wait, WaitingFor
from vram.state import State

LoadTime = Callable[[Slot], float | None]
"""How long a load of the model takes, in seconds; None while nothing like it was measured."""

DEVICE_RECHECK_S = 5.0
"""How often a device that does not answer is asked again, and when it is worth coming back."""

_RETRY_AFTER_S = 5.0
"""What a refused client is told while nothing was measured."""

_LONGEST_RETRY_S = 600.0

_ALMOST = 99
"""A load that takes longer than the last one did is not over for that."""


def snapshot(state: State, now_s: float) -> Snapshot:
    memory = state.memory
    by_ticket = dict(waits(state.queue, state.load_time_s, now_s))
    return Snapshot(
        budget_bytes=memory.budget_bytes,
        charged_bytes=memory.charged_bytes,
        unreturned_bytes=memory.unreturned_bytes,
        others_bytes=memory.others_bytes,
        available_bytes=max(0, memory.free_bytes),
        models=tuple(_model(state, slot, by_ticket, now_s) for slot in state.slots.values()),
        device_error=memory.error,
    )


def load_percent(slot: Slot, load_s: float | None, now_s: float) -> int | None:
    """How far a load is, by the time that it should take; None unless it is under way and that is known."""
    if slot.phase != "loading" or slot.stuck or not load_s:
        return None
    return min(_ALMOST, int(100 * (now_s - slot.since_s) / load_s))


def waits(slots: Iterable[Slot], load_time: LoadTime, now_s: float) -> Iterator[tuple[int, Wait]]:
    """What each ticket waits for. slots: all that somebody waits for."""
    absent, present = _by_turn(slots, now_s)
    for slot in present:
        yield from _waits_of(slot, load_time(slot), now_s)
    ahead, ahead_s = 0, sum(_ready_s(slot, load_time, now_s) for slot in present if slot.phase == "loading")
    for number, slot in enumerate(absent):
        load_s = load_time(slot)
        ready_s = None if load_s is None else ahead_s + load_s
        turn: WaitingFor = "queue" if number else "eviction"
        for place, ticket in enumerate(slot.waiters, start=ahead + 1):
            yield ticket, Wait(place, turn, None, ready_s)
        ahead += len(slot.waiters)
        ahead_s += load_s or 0.0


def retry_after_s(wanted: Slot, slots: Iterable[Slot], load_time: LoadTime, now_s: float) -> float:
    """When it is worth asking again: after the loads that come first, its own, and the leases that are queued."""
    total_s = _ready_s(wanted, load_time, now_s)
    for slot in slots:
        if slot is not wanted:
            total_s += _ready_s(slot, load_time, now_s)
    if wanted.lease_s is not None:
        total_s += wanted.lease_s * len(wanted.waiters) / wanted.spec.max_concurrency
    return min(total_s, _LONGEST_RETRY_S) or _RETRY_AFTER_S


def out_of_memory(state: State, slot: Slot, cause: BaseException | None, now_s: float) -> Refused:
    """What those are told for whom there was no memory. To run out of the whole budget means that it can never fit."""
    needed_bytes = state.needed_bytes(slot)
    error: Refused
    if needed_bytes > state.memory.budget_bytes:
        error = NeverFits(slot.spec.id, needed_bytes, state.memory.budget_bytes)
    else:
        error = OutOfMemory(slot.spec.id, retry_after_s(slot, state.queue, state.load_time_s, now_s))
    error.__cause__ = cause
    return error


def _model(state: State, slot: Slot, by_ticket: Mapping[int, Wait], now_s: float) -> ModelState:
    figures = state.sizes.figures(slot.spec)
    return ModelState(
        id=slot.spec.id,
        task=slot.spec.task,
        phase=slot.phase,
        bytes=state.needed_bytes(slot) if slot.phase == "absent" else slot.charged_bytes,
        leases=slot.leases,
        waiting=len(slot.waiters),
        last_used_s_ago=now_s - slot.last_used_s if slot.last_used_s else None,
        pinned=slot.pinned,
        stuck=slot.stuck,
        predicted_bytes=figures.predicted_bytes,
        measured_bytes=figures.measured_bytes,
        load_percent=load_percent(slot, figures.load_s, now_s),
        queue=tuple(by_ticket[ticket] for ticket in slot.waiters),
    )


def _by_turn(slots: Iterable[Slot], now_s: float) -> tuple[list[Slot], list[Slot]]:
    """Those whose swap is still to come, first to come first; and those that are here or on their way."""
    absent: dict[str, Slot] = {}
    present: list[Slot] = []
    for slot in slots:
        if slot.phase == "absent":
            absent[slot.spec.id] = slot
        else:
            present.append(slot)
    order = policy.serving_order(slot.waiter(now_s) for slot in absent.values())
    return [absent[waiter.model] for waiter in order], present


def _ready_s(slot: Slot, load_time: LoadTime, now_s: float) -> float:
    """The loading that a model still needs; 0 where its time is not known."""
    if slot.phase == "resident":
        return 0.0
    load_s = load_time(slot) or 0.0
    return max(0.0, slot.since_s + load_s - now_s) if slot.phase == "loading" else load_s


def _waits_of(slot: Slot, load_s: float | None, now_s: float) -> Iterator[tuple[int, Wait]]:
    """Those whose model is loading, resident but full, or leaving and to be loaded again."""
    turn: WaitingFor = "queue"
    percent: int | None = None
    ready_s: float | None = None
    if slot.phase == "loading":
        turn, percent = "load", load_percent(slot, load_s, now_s)
        ready_s = None if load_s is None else max(0.0, slot.since_s + load_s - now_s)
    elif slot.phase == "unloading" or slot.spent:
        turn, ready_s = "eviction", load_s
    for place, ticket in enumerate(slot.waiters, start=1):
        yield ticket, Wait(place, turn, percent, ready_s)
