"""Random events, driven into a scheduler in virtual time by a card that knows the truth: one episode after the other.

Each episode draws its own card, models, habits and misfortunes. Everybody who asks holds for a while and lets go, or
goes away before; loads succeed, fail, hang, and run out of memory when there is none; what comes back may come back
late; other processes come and go; the device stops answering for a while. At the end nothing new happens, and all must
come to rest.
"""

import heapq
import itertools
import random
from collections.abc import Callable

from bench.account import Violation
from bench.beliefs import Beliefs
from bench.card import Card, Tells
from bench.invariants import Invariants
from bench.tally import Tally
from vram.device import DeviceError, Reading, grown_bytes
from vram.effect import Effect, Grant, Load, Refuse, Unload
from vram.model import ModelSpec, Task
from vram.refusal import Busy
from vram.scheduler import Scheduler

Build = Callable[..., Scheduler]
"""Scheduler, or what a test puts in its place."""

BUDGET_BYTES = 16_000
MAX_WAIT_S: dict[Task, float] = {"asr": 1, "tts": 2, "llm": 20}
LOAD_S = 30.0
EPISODE_EVENTS = 500
REST_EVENTS = 50_000
"""How much may still happen after an episode's last new event until all has come to rest."""


class Episode:
    """One card, one set of models, one life."""

    def __init__(self, seed: str, tally: Tally, build: Build = Scheduler) -> None:
        self._tally = tally
        self._random = draw = random.Random(seed)
        tells: Tells = draw.choices(("own", "used", "nothing"), (6, 3, 1))[0]
        models = self._models(tells)
        true_bytes = {name: taken_bytes for name, (_, taken_bytes) in models.items()}
        specs = [spec for spec, _ in models.values()]
        self._card = Card(draw.choice((BUDGET_BYTES, 17_000, 20_000)), tells, true_bytes)
        self._beliefs = Beliefs()
        self._specs = {spec.id: spec for spec in specs}
        self._scheduler = build(
            specs,
            self._beliefs,
            BUDGET_BYTES,
            max_wait_s=MAX_WAIT_S,
            queue_per_model=draw.randint(2, 16),
            queue_total=draw.randint(8, 48),
            load_s=LOAD_S,
        )
        self._account = Invariants(specs, self._scheduler, self._beliefs, self._card, BUDGET_BYTES, MAX_WAIT_S, LOAD_S)
        self._names = list(models)
        self._popularity = list(itertools.accumulate(draw.random() ** 2 + 0.02 for _ in models))
        self._gap_s = draw.choice((0.3, 1.0, 3.0, 10.0))
        self._hold_s = draw.choice((0.2, 1.0, 4.0))
        self._grows = tells == "own" and draw.random() < 0.3
        self._late_share = draw.choice((0, 0, 0.3))
        self._timer_late_s = draw.choice((0.0, 0.0, 0.1))
        self._now_s = 0.0
        self._ticket = 0
        self._happened = 0
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._before: dict[str, Reading | None] = {}
        """What was read when a load under way began; None once others moved beside it."""
        self._answers = True
        self._resting = False

    def _models(self, tells: Tells) -> dict[str, tuple[ModelSpec, int]]:
        """By id, with what they really take."""
        draw = self._random
        surprising = tells != "nothing" and draw.random() < 0.6
        models = {}
        for number in range(draw.randint(3, 9)):
            task: Task = draw.choices(("llm", "tts", "asr"), (5, 3, 2))[0]
            low, high = {"llm": (3_000, 15_500), "tts": (800, 3_000), "asr": (1_500, 5_000)}[task]
            true_bytes = draw.randint(low, high)
            estimate_bytes = int(true_bytes * draw.uniform(0.6, 1.3)) if surprising else true_bytes
            spec = ModelSpec(
                f"{task}{number}",
                task,
                estimate_bytes,
                max_concurrency=draw.choice((1, 1, 2, 4)),
                pinned=draw.random() < 0.03,
                idle_unload_s=draw.choice((None, None, None, 15.0, 60.0)),
            )
            models[spec.id] = spec, true_bytes
        return models

    def run(self, events: int) -> None:
        """Raises Violation."""
        self._soon(0.0, self._request)
        self._soon(5.0, self._misfortune)
        while self._happened < events:
            self._next()
        self._resting = True
        if self._random.random() < 0.3:
            self._account.stop(self._now_s)
            self._follow(self._scheduler.shutdown(self._now_s))
        for _ in range(REST_EVENTS):
            if not self._agenda and not self._account.waiting:
                break
            self._next()
        self._account.close()

    def _next(self) -> None:
        wake_at_s = self._scheduler.wake_at_s()
        if wake_at_s is not None and (not self._agenda or wake_at_s + self._timer_late_s <= self._agenda[0][0]):
            self._now_s = max(self._now_s, wake_at_s + self._timer_late_s)
            self._tick()
        elif self._agenda:
            self._now_s, _, happen, facts = heapq.heappop(self._agenda)
            happen(*facts)
        else:
            raise Violation(f"{len(self._account.waiting)} wait, and nothing will ever happen")

    def _soon(self, delay_s: float, happen: Callable[..., None], *facts: object) -> None:
        heapq.heappush(self._agenda, (self._now_s + delay_s, next(self._order), happen, facts))

    def _count(self, event: str) -> None:
        self._happened += 1
        self._tally.events[event] += 1

    def _read(self) -> Reading | DeviceError | None:
        return self._card.read() if self._answers else DeviceError("it does not answer")

    def _tick(self) -> None:
        self._tally.ticks += 1
        reading = self._read()
        self._account.tick(self._now_s)
        self._follow(self._scheduler.tick(self._now_s, reading), reading)

    # What may happen.

    def _request(self) -> None:
        draw = self._random
        model = draw.choices(self._names, cum_weights=self._popularity)[0]
        if self._account.places[model].phase == "absent" and draw.random() < 0.5:
            self._tick()
        self._ticket += 1
        self._count("request")
        self._account.request(self._ticket, model, self._now_s)
        if draw.random() < 0.15:
            self._soon(draw.expovariate(0.3), self._cancel, self._ticket)
        self._follow(self._scheduler.request(self._ticket, model, self._now_s))
        if not self._resting:
            burst = draw.random() < 0.2
            self._soon(0.0 if burst else draw.expovariate(1 / self._gap_s), self._request)

    def _cancel(self, ticket: int) -> None:
        self._count("cancel")
        self._account.cancel(ticket, self._now_s)
        self._follow(self._scheduler.cancel(ticket, self._now_s))

    def _release(self, ticket: int) -> None:
        place = self._account.held.get(ticket)
        if place is None:  # cancelled while it was held
            return
        self._count("release")
        draw, out_of_memory = self._random, False
        if self._grows and draw.random() < 0.1:
            out_of_memory = not self._card.grow(place.spec.id, draw.randint(1, 300))
        reading = self._read()
        self._account.release(ticket, self._now_s, out_of_memory=out_of_memory)
        self._follow(self._scheduler.release(ticket, self._now_s, reading, out_of_memory=out_of_memory), reading)

    def _end_load(self, model: str, fate: str) -> None:
        alone_before = self._before.pop(model)
        if fate == "fail":
            self._count("load failed")
            self._fail(model, out_of_memory=False)
        elif fate == "oom" or not self._card.load(model):
            self._count("load ran out of memory")
            self._fail(model, out_of_memory=True)
        else:
            self._count("loaded" if fate == "load" else "loaded late")
            reading = self._read()
            measured_bytes = None
            if alone_before is not None and isinstance(reading, Reading):
                measured_bytes = grown_bytes(alone_before, reading, self._beliefs.bytes_for(self._specs[model]))
            self._account.loaded(model, self._now_s)
            if measured_bytes is not None:
                self._account.measured(model, measured_bytes)
            self._follow(self._scheduler.loaded(model, self._now_s, reading, measured_bytes=measured_bytes), reading)

    def _fail(self, model: str, *, out_of_memory: bool) -> None:
        reading = self._read()
        self._account.load_failed(model, self._now_s, out_of_memory=out_of_memory)
        effects = self._scheduler.load_failed(model, OSError(), self._now_s, reading, out_of_memory=out_of_memory)
        self._follow(effects, reading)

    def _end_unload(self, model: str) -> None:
        self._count("unloaded")
        draw, late_bytes = self._random, 0
        if draw.random() < self._late_share:
            late_bytes = draw.randint(1, 1 + self._card.held_bytes[model] // 2)
            self._soon(draw.expovariate(0.1), self._come_back, late_bytes)
        self._card.unload(model, late_bytes)
        reading = self._read()
        self._account.unloaded(model, self._now_s)
        self._follow(self._scheduler.unloaded(model, self._now_s, reading), reading)

    def _come_back(self, late_bytes: int) -> None:
        self._count("memory came back")
        self._card.late_bytes -= late_bytes

    def _misfortune(self) -> None:
        """Something that nobody asked for, now and then."""
        draw = self._random
        if self._resting:
            return
        self._soon(draw.expovariate(0.1 / self._gap_s), self._misfortune)
        match draw.choices(("foreign", "pin", "unload", "silence"), (4, 2, 2, 1))[0]:
            case "foreign" if self._card.tells != "nothing" and self._card.free_bytes > 0:
                self._count("others come")
                taken_bytes = draw.randint(1, self._card.free_bytes)
                self._card.foreign_bytes += taken_bytes
                self._soon(draw.expovariate(0.05), self._leave, taken_bytes)
            case "pin":
                model = draw.choice(self._names)
                self._pin(model, not self._account.places[model].pinned)
            case "unload":
                self._unload(draw.choice(self._names))
            case "silence" if self._answers and self._card.tells != "nothing":
                self._count("device lost")
                self._answers = False
                self._soon(draw.expovariate(0.2), self._answer)

    def _leave(self, taken_bytes: int) -> None:
        self._count("others go")
        self._card.foreign_bytes -= taken_bytes

    def _answer(self) -> None:
        self._count("device back")
        self._answers = True

    def _pin(self, model: str, pinned: bool) -> None:
        """Pins last a while: who is shut out for good is refused, which is another episode's subject."""
        self._count("pin" if pinned else "unpin")
        self._account.pin(model, pinned, self._now_s)
        self._follow(self._scheduler.pin(model, pinned, self._now_s))
        if pinned:
            self._soon(self._random.expovariate(0.1), self._pin, model, False)

    def _unload(self, model: str) -> None:
        self._count("unload asked")
        try:
            effects = self._scheduler.unload(model, self._now_s)
        except Busy:
            return
        self._account.unload(self._now_s)
        self._follow(effects)

    # What follows.

    def _follow(self, effects: list[Effect], reading: Reading | DeviceError | None = None) -> None:
        self._account.follow(effects, reading)
        draw, done = self._random, self._tally.effects
        for effect in effects:
            match effect:
                case Grant(ticket):
                    done["granted"] += 1
                    self._soon(draw.expovariate(1 / self._hold_s), self._release, ticket)
                case Load(model):
                    done["load"] += 1
                    fate = draw.choices(("load", "hang", "fail", "oom"), (92, 1, 4, 3))[0]
                    took_s = draw.uniform(LOAD_S, 2 * LOAD_S) if fate == "hang" else draw.uniform(0.3, 6)
                    self._soon(took_s, self._end_load, model, fate)
                    reading_before = self._read()
                    self._before[model] = reading_before if isinstance(reading_before, Reading) else None
                case Unload(model, reason):
                    done[f"unload ({reason})"] += 1
                    took_s = draw.uniform(LOAD_S, 2 * LOAD_S) if draw.random() < 0.005 else draw.uniform(0.05, 1)
                    self._soon(took_s, self._end_unload, model)
                case Refuse(_, error):
                    done[f"refused ({type(error).__name__})"] += 1
        if len(self._account.moving) > 1:
            self._before = dict.fromkeys(self._before)


def chaos(events: int, seed: int, build: Build = Scheduler) -> Tally:
    """At least so many random events. An episode with a violation ends there, for nothing holds after it."""
    tally = Tally()
    while (left := events - tally.events.total()) > 0:
        tally.episodes += 1
        name = f"{seed}:{tally.episodes}"
        try:
            Episode(name, tally, build).run(min(left, EPISODE_EVENTS))
        except Violation as violation:
            tally.violations.append(f"episode {name}: {violation}")
    return tally
