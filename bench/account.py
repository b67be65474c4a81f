"""Who waits, who holds and what is where, as far as events and effects tell: kept apart from the scheduler's own word.

An effect that cannot be, or that breaks a rule about who is granted, loaded or unloaded, is a Violation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench import rules
from vram.effect import Effect, Grant, Load, Refuse, Unload, UnloadReason
from vram.model import ModelSpec, Task
from vram.snapshot import Phase


class Violation(Exception):
    """A rule did not hold."""


@dataclass(slots=True, eq=False)
class Place:
    """One model, as far as events and effects tell."""

    spec: ModelSpec
    max_wait_s: float
    pinned: bool
    phase: Phase = "absent"
    stuck: bool = False
    spent: bool = False
    retrying: bool = False
    since_s: float = 0.0
    used_s: float = 0.0
    served: bool = False
    gaps_s: list[float] = field(default_factory=list)
    linger_s: float = 0.0
    leases: int = 0
    waiters: dict[int, float] = field(default_factory=dict)

    @property
    def evictable(self) -> bool:
        return self.phase == "resident" and not self.leases and not self.waiters and not self.pinned

    def oldest(self) -> tuple[int, bool, float]:
        """The oldest ticket, and when it becomes overdue."""
        ticket, asked_s = next(iter(self.waiters.items()))
        return ticket, self.phase != "resident", asked_s + self.max_wait_s


class Account:
    """Told of every event before the scheduler is, and of its effects by `apply`.

    load_time_s: how long the load of a model took the last time
    load_s: after which a load or an unload that is under way is given up
    """

    def __init__(
        self,
        models: Iterable[ModelSpec],
        load_time_s: Callable[[ModelSpec], float | None],
        max_wait_s: Mapping[Task, float],
        load_s: float,
    ) -> None:
        self.places = {model.id: Place(model, max_wait_s[model.task], model.pinned) for model in models}
        self.waiting: dict[int, Place] = {}
        self.held: dict[int, Place] = {}
        self.moving: dict[str, Place] = {}
        self.awaited: dict[str, Place] = {}
        self.now_s = 0.0
        self.stopping = False
        self.late = False
        """A load ended after it was given up, in this event."""
        self.must_leave: list[Place] = []
        """All that was idle when a load ran out of memory for the first time, in this event."""
        self._load_time_s = load_time_s
        self._load_s = load_s

    # What happens.

    def request(self, ticket: int, model: str, now_s: float) -> None:
        self.now_s = now_s
        place = self.places[model]
        if place.served and not place.leases and not place.waiters:
            place.gaps_s = [*place.gaps_s, now_s - place.used_s][-32:]
            place.linger_s = rules.linger_s(place.gaps_s, self._load_time_s(place.spec) or 0)
        self.awaited[model] = self.waiting[ticket] = place
        place.waiters[ticket] = now_s

    def release(self, ticket: int, now_s: float, *, out_of_memory: bool = False) -> None:
        self.now_s = now_s
        place = self.held.pop(ticket)
        place.leases -= 1
        place.used_s = now_s
        place.served = True
        place.spent |= out_of_memory

    def cancel(self, ticket: int, now_s: float) -> None:
        self.now_s = now_s
        if ticket in self.waiting:
            self._leave(ticket)
        elif ticket in self.held:
            self.release(ticket, now_s)

    def pin(self, model: str, pinned: bool, now_s: float) -> None:
        self.now_s = now_s
        self.places[model].pinned = pinned

    def unload(self, now_s: float) -> None:
        """Somebody wants a model gone."""
        self.now_s = now_s

    def loaded(self, model: str, now_s: float) -> None:
        self.now_s = now_s
        place = self.moving.pop(model)
        place.phase = "resident"
        place.retrying = False
        self.late, place.stuck = place.stuck, False
        if not self.late:
            place.used_s = now_s

    def load_failed(self, model: str, now_s: float, *, out_of_memory: bool) -> None:
        place = self.places[model]
        again = out_of_memory and bool(place.waiters) and not (place.retrying or place.stuck)
        self.unloaded(model, now_s)
        place.retrying = again
        if again:
            self.must_leave = [each for each in self.places.values() if each.evictable]

    def unloaded(self, model: str, now_s: float) -> None:
        self.now_s = now_s
        place = self.moving.pop(model)
        place.phase = "absent"
        place.stuck = place.spent = False

    def tick(self, now_s: float) -> None:
        self.now_s = now_s
        for place in self.moving.values():
            place.stuck |= now_s >= place.since_s + self._load_s

    def stop(self, now_s: float) -> None:
        self.now_s = now_s
        self.stopping = True

    # What follows.

    def apply(self, effects: Sequence[Effect]) -> tuple[list[Place], list[Place]]:
        """Returns what begins to load, and what is evicted to make room. Raises Violation."""
        loads: list[Place] = []
        evicted: list[Place] = []
        for effect in effects:
            match effect:
                case Grant(ticket, model):
                    self._grant(ticket, model)
                case Refuse(ticket):
                    if ticket not in self.waiting:
                        raise Violation(f"ticket {ticket} is refused, but does not wait")
                    self._leave(ticket)
                case Load(model):
                    loads.append(self._load(model))
                case Unload(model, reason):
                    place = self._unload(model, reason)
                    if reason == "room":
                        evicted.append(place)
        if any(place.phase == "resident" for place in self.must_leave) and not self.stopping:
            raise Violation("a model stays idle although a load ran out of memory")
        self.late, self.must_leave = False, []
        return loads, evicted

    def _leave(self, ticket: int) -> None:
        place = self.waiting.pop(ticket)
        del place.waiters[ticket]
        if not place.waiters:
            del self.awaited[place.spec.id]
            place.retrying &= place.phase != "absent"

    def _grant(self, ticket: int, model: str) -> None:
        place = self.places[model]
        if self.waiting.get(ticket) is not place:
            raise Violation(f"ticket {ticket} is granted {model}, but does not wait for it")
        if place.phase != "resident" or place.spent:
            raise Violation(f"{model} is granted while it is {'spent' if place.spent else place.phase}")
        if place.leases >= place.spec.max_concurrency:
            raise Violation(f"{model} has more leases than it may")
        for other in self.awaited.values():
            if other.phase == "resident" and other is not place:
                continue
            first, swaps, overdue_s = other.oldest()
            if first < ticket and (other is place or (swaps and self.now_s >= overdue_s)):
                raise Violation(f"ticket {ticket} overtakes {first}, which may not be overtaken any more")
        self._leave(ticket)
        self.held[ticket] = place
        place.leases += 1
        place.used_s = self.now_s

    def _load(self, model: str) -> Place:
        place = self.places[model]
        if place.phase != "absent":
            raise Violation(f"{model} is loaded while it is {place.phase}")
        if not place.waiters:
            raise Violation(f"{model} is loaded for nobody")
        place.phase = "loading"
        place.since_s = self.now_s
        self.moving[model] = place
        return place

    def _unload(self, model: str, reason: UnloadReason) -> Place:
        place = self.places[model]
        if place.phase != "resident":
            raise Violation(f"{model} is unloaded while it is {place.phase}")
        if place.leases:
            raise Violation(f"{model} is unloaded although it serves")
        match reason:
            case "room" if place.pinned:
                raise Violation(f"{model} is evicted although it is pinned")
            case "idle" if not self.late:
                since_s = self.now_s - place.used_s
                limit_s = place.spec.idle_unload_s
                if place.pinned or place.waiters or limit_s is None or since_s < limit_s - 1e-6:
                    raise Violation(f"{model} is unloaded as idle after {since_s:g} s")
            case "reload" if not place.spent:
                raise Violation(f"{model} is unloaded to be loaded afresh, for no reason")
            case "stopping" if not self.stopping:
                raise Violation(f"{model} is unloaded although nobody stops")
        place.phase = "unloading"
        place.since_s = self.now_s
        self.moving[model] = place
        return place
