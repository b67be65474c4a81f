"""A trace served by a scheduler in virtual time: loads, evictions, and how long everybody waited."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.trace import Trace
from vram.effect import Effect, Grant, Load, Refuse, Unload
from vram.model import Task


class Decides(Protocol):
    """vram.scheduler.Scheduler, or one of bench.peers."""

    def request(self, ticket: int, model: str, now_s: float) -> Sequence[Effect]: ...
    def release(self, ticket: int, now_s: float) -> Sequence[Effect]: ...
    def loaded(self, model: str, now_s: float) -> Sequence[Effect]: ...
    def unloaded(self, model: str, now_s: float) -> Sequence[Effect]: ...
    def tick(self, now_s: float) -> Sequence[Effect]: ...
    def wake_at_s(self) -> float | None: ...


@dataclass(slots=True)
class Outcome:
    """lone_loads: those that began while nobody waited for another model, so that no other order could have saved them

    arrivals: when each request came in, and for which model
    waits_s: per task, seconds from a request to its grant
    """

    loads: int = 0
    lone_loads: int = 0
    evictions: int = 0
    arrivals: list[tuple[float, str]] = field(default_factory=list)
    waits_s: dict[Task, list[float]] = field(default_factory=dict)

    def quantile_s(self, task: Task, share: float) -> float:
        """The wait that `share` of the task's requests did not exceed."""
        waits = sorted(self.waits_s[task])
        return waits[min(len(waits) - 1, int(share * len(waits)))]


class Replay:
    """One run of one trace. Tickets are given in the order in which requests come in."""

    def __init__(self, trace: Trace, scheduler: Decides) -> None:
        self._trace = trace
        self._scheduler = scheduler
        self._models = {model.id: model for model in trace.models}
        self._outcome = Outcome()
        self._agenda: list[tuple[float, int, Callable[..., Sequence[Effect]], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._tickets = itertools.count()
        self._asked: dict[int, tuple[int, float]] = {}
        """ticket -> which request of the trace, and when it came in"""
        self._followers: dict[tuple[int | None, str], list[int]] = {}
        self._now_s = 0.0

    def run(self) -> Outcome:
        """Until nothing is left to happen. Raises ValueError when somebody is refused or left waiting."""
        for index, asked in enumerate(self._trace.requests):
            if asked.after is None:
                self._at(asked.delay_s, self._ask, index)
            else:
                self._followers.setdefault((asked.after, asked.when), []).append(index)
        while True:
            wake_at_s = self._scheduler.wake_at_s()
            if wake_at_s is not None and (not self._agenda or wake_at_s < self._agenda[0][0]):
                self._now_s = max(self._now_s, wake_at_s)
                effects = self._scheduler.tick(self._now_s)
            elif self._agenda:
                self._now_s, _, happen, facts = heapq.heappop(self._agenda)
                effects = happen(*facts)
            else:
                break
            self._carry_out(effects)
        if sum(map(len, self._outcome.waits_s.values())) != len(self._trace.requests):
            raise ValueError("somebody was never served")
        return self._outcome

    def _at(self, moment_s: float, happen: Callable[..., Sequence[Effect]], *facts: object) -> None:
        heapq.heappush(self._agenda, (moment_s, next(self._order), happen, facts))

    def _ask(self, index: int) -> Sequence[Effect]:
        ticket = next(self._tickets)
        model = self._trace.requests[index].model
        self._asked[ticket] = index, self._now_s
        self._outcome.arrivals.append((self._now_s, model))
        return self._scheduler.request(ticket, model, self._now_s)

    def _end(self, ticket: int, index: int) -> Sequence[Effect]:
        self._follow(index, "end")
        return self._scheduler.release(ticket, self._now_s)

    def _loaded(self, model: str) -> Sequence[Effect]:
        return self._scheduler.loaded(model, self._now_s)

    def _unloaded(self, model: str) -> Sequence[Effect]:
        return self._scheduler.unloaded(model, self._now_s)

    def _follow(self, index: int, when: str) -> None:
        for follower in self._followers.pop((index, when), ()):
            self._at(self._now_s + self._trace.requests[follower].delay_s, self._ask, follower)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        outcome, trace = self._outcome, self._trace
        for effect in effects:
            match effect:
                case Grant(ticket, name):
                    index, asked_s = self._asked.pop(ticket)
                    outcome.waits_s.setdefault(self._models[name].task, []).append(self._now_s - asked_s)
                    self._follow(index, "start")
                    self._at(self._now_s + trace.requests[index].service_s, self._end, ticket, index)
                case Refuse(ticket):
                    raise ValueError(f"request {self._asked[ticket][0]} was refused")
                case Load(name):
                    outcome.loads += 1
                    others = [index for index, _ in self._asked.values() if trace.requests[index].model != name]
                    outcome.lone_loads += not others
                    took_s = self._models[name].estimate_bytes / trace.load_bytes_per_s
                    self._at(self._now_s + took_s, self._loaded, name)
                case Unload(name):
                    outcome.evictions += 1
                    self._at(self._now_s + trace.unload_s, self._unloaded, name)
