"""Any order of events: the rules that hold after each of them, and that everybody is served or refused in the end."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vram.device import DeviceError, Reading
from vram.effect import Effect, Grant, Load, Refuse, Unload, UnloadReason
from vram.ledger import Figures
from vram.model import PRIORITY, ModelSpec, Task
from vram.preload import room
from vram.refusal import Busy
from vram.scheduler import Scheduler

BUDGET_BYTES = 16
MAX_WAIT_S: dict[Task, float] = {"asr": 1, "tts": 2, "llm": 20}
LOAD_S = 50
IDLE_UNLOAD_S = 30
MODELS = {
    model.id: model
    for model in (
        ModelSpec("asr", "asr", 4, max_concurrency=2),
        ModelSpec("tts", "tts", 2),
        ModelSpec("pinned", "tts", 1, pinned=True),
        ModelSpec("fading", "tts", 2, idle_unload_s=IDLE_UNLOAD_S),
        ModelSpec("small", "llm", 4, max_concurrency=3),
        ModelSpec("middle", "llm", 9),
        ModelSpec("large", "llm", 13, max_concurrency=2),
        ModelSpec("whole", "llm", 16),
        ModelSpec("monster", "llm", 17),
    )
}


@dataclass
class Beliefs:
    """A ledger in memory."""

    bytes: dict[str, int] = field(default_factory=dict)
    load_s: dict[str, float] = field(default_factory=dict)

    def bytes_for(self, model: ModelSpec) -> int:
        return self.bytes.get(model.id, model.estimate_bytes)

    def figures(self, model: ModelSpec) -> Figures:
        return Figures(model.estimate_bytes, None, self.load_s.get(model.id))

    def loaded(self, model: ModelSpec, measured_bytes: int | None, took_s: float) -> None:
        self.load_s[model.id] = took_s
        if measured_bytes is not None:
            self.bytes[model.id] = measured_bytes

    def peaked(self, model: ModelSpec, taken_bytes: int) -> None:
        self.bytes[model.id] = taken_bytes

    def out_of_memory(self, model: ModelSpec, offered_bytes: int) -> None:
        self.bytes[model.id] = offered_bytes + 1


class Events(RuleBasedStateMachine):
    """Keeps its own account of who waits, who holds and what is where, from nothing but events and effects."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(
            MODELS.values(),
            Beliefs(),
            BUDGET_BYTES,
            max_wait_s=MAX_WAIT_S,
            queue_per_model=3,
            queue_total=8,
            load_s=LOAD_S,
        )
        self.now_s = 0.0
        self.arrivals = 0
        self.waiting: dict[int, tuple[str, float]] = {}
        self.held: dict[int, str] = {}
        self.phases = dict.fromkeys(MODELS, "absent")
        self.used_s = dict.fromkeys(MODELS, 0.0)
        self.pinned = {"pinned"}
        self.spent: set[str] = set()
        self.device_lost = False

    # What may happen.

    @rule(name=st.sampled_from(sorted(MODELS)))
    def request(self, name: str) -> None:
        self.arrivals += 1
        self.waiting[self.arrivals] = (name, self.now_s)
        self.follow(self.scheduler.request(self.arrivals, name, self.now_s))

    @precondition(lambda self: not self.device_lost)
    @rule(name=st.sampled_from(sorted(MODELS)))
    def preload(self, name: str) -> None:
        """A request like others, made only where it needs nobody's room."""
        needed_bytes, spare_bytes = room(self.scheduler.snapshot(self.now_s), name)
        if self.phases[name] != "absent" or needed_bytes > spare_bytes:
            return
        leaving = [each for each, phase in self.phases.items() if phase == "unloading"]
        self.request(name)
        assert leaving == [each for each, phase in self.phases.items() if phase == "unloading"], "evicted for a preload"
        assert self.phases[name] == "loading"

    @precondition(lambda self: self.held)
    @rule(data=st.data(), out_of_memory=st.sampled_from((False, False, False, True)))
    def release(self, data: st.DataObject, out_of_memory: bool) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.held)))
        name = self.held.pop(ticket)
        self.used_s[name] = self.now_s
        if out_of_memory:
            self.spent.add(name)
        self.follow(self.scheduler.release(ticket, self.now_s, out_of_memory=out_of_memory))
        if name in self.spent and name not in self.held.values():
            assert self.phases[name] != "resident", "a model that ran out of memory stayed"

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[ticket]
        self.follow(self.scheduler.cancel(ticket, self.now_s))

    @precondition(lambda self: self.moving())
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.arrive(data.draw(st.sampled_from(self.moving())))

    @precondition(lambda self: "loading" in self.phases.values())
    @rule(data=st.data(), out_of_memory=st.booleans())
    def fail(self, data: st.DataObject, out_of_memory: bool) -> None:
        name = data.draw(st.sampled_from([name for name in self.moving() if self.phases[name] == "loading"]))
        self.phases[name] = "absent"
        effects = self.scheduler.load_failed(name, OSError(), self.now_s, out_of_memory=out_of_memory)
        self.follow(effects, in_order=not out_of_memory)

    @rule(name=st.sampled_from(sorted(MODELS)), pinned=st.booleans())
    def pin(self, name: str, pinned: bool) -> None:
        (self.pinned.add if pinned else self.pinned.discard)(name)
        self.follow(self.scheduler.pin(name, pinned, self.now_s))

    @rule(name=st.sampled_from(sorted(MODELS)))
    def unload(self, name: str) -> None:
        wanted = {*self.held.values(), *(each for each, _ in self.waiting.values())}
        try:
            effects = self.scheduler.unload(name, self.now_s)
        except Busy:
            assert name in wanted or self.phases[name] == "loading" or self.stuck(name)
            return
        assert name not in wanted
        self.follow(effects)
        assert self.phases[name] in ("absent", "unloading")

    @rule()
    def lose_device(self) -> None:
        self.device_lost = True
        self.follow(self.scheduler.tick(self.now_s, DeviceError("GPU is lost")))

    @precondition(lambda self: self.device_lost)
    @rule()
    def find_device(self) -> None:
        self.device_lost = False
        held_bytes = self.scheduler.snapshot(self.now_s).charged_bytes
        self.follow(self.scheduler.tick(self.now_s, Reading(BUDGET_BYTES, held_bytes, held_bytes)))

    @rule(seconds=st.sampled_from((0.5, 1, 2, 20, LOAD_S)))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.follow(self.scheduler.tick(self.now_s))

    # What must follow.

    def follow(self, effects: list[Effect], *, in_order: bool = True, late: bool = False) -> None:
        self.now_s += 0.001
        evicted = []
        for effect in effects:
            match effect:
                case Grant(ticket, name):
                    self.check_grant(ticket, name)
                    del self.waiting[ticket]
                    self.held[ticket] = name
                    self.used_s[name] = self.now_s
                case Refuse(ticket, _):
                    del self.waiting[ticket]
                case Load(name):
                    assert self.phases[name] == "absent", "loaded twice"
                    assert not self.device_lost, "loaded onto a device that does not answer"
                    self.phases[name] = "loading"
                case Unload(name, reason):
                    assert self.phases[name] == "resident"
                    assert name not in self.held.values(), "a busy model was evicted"
                    self.check_reason(name, reason, late=late)
                    self.phases[name] = "unloading"
                    if reason == "room":
                        evicted.append(name)
        if in_order and evicted:
            self.check_order(evicted)
            self.check_need(evicted)

    def check_reason(self, name: str, reason: UnloadReason, *, late: bool) -> None:
        if reason in ("room", "idle"):
            assert late or name not in self.pinned, "a pinned model was evicted"
        if reason == "idle" and not late:
            assert name == "fading"
            assert self.now_s - 0.001 >= self.used_s[name] + IDLE_UNLOAD_S - 0.01
        assert (reason == "reload") == (name in self.spent)

    def check_grant(self, ticket: int, name: str) -> None:
        assert self.waiting[ticket][0] == name
        assert self.phases[name] == "resident"
        assert name not in self.spent
        assert list(self.held.values()).count(name) < MODELS[name].max_concurrency
        for earlier, (other, arrived_s) in self.waiting.items():
            overdue = self.now_s - 0.001 >= arrived_s + MAX_WAIT_S[MODELS[other].task]
            assert not (earlier < ticket and other == name), "overtaken on its own model"
            assert not (earlier < ticket and overdue and self.phases[other] != "resident"), "overtaken after max_wait_s"

    def check_need(self, evicted: list[str]) -> None:
        """Nobody was evicted whom the one newcomer did not need."""
        snapshot = self.scheduler.snapshot(self.now_s)
        newcomers = [each for each in snapshot.models if each.phase == "absent" and each.waiting]
        if len(newcomers) == 1:
            leaving_bytes = sum(each.bytes for each in snapshot.models if each.phase == "unloading" and not each.stuck)
            (last_bytes,) = (each.bytes for each in snapshot.models if each.id == evicted[-1])
            assert snapshot.available_bytes + leaving_bytes - last_bytes < newcomers[0].bytes, "a needless eviction"

    def check_order(self, evicted: list[str]) -> None:
        """Whatever is evicted, every idle model below it went before it."""
        busy = {*self.held.values(), *(name for name, _ in self.waiting.values())}
        spared = [name for name in self.resident() if name not in busy and name not in self.pinned]
        assert not any(self.rank(below) < self.rank(gone) for gone in evicted for below in spared)

    def rank(self, name: str) -> tuple[int, float]:
        return PRIORITY[MODELS[name].task], self.used_s[name]

    def arrive(self, name: str) -> None:
        if self.phases[name] == "unloading":
            self.phases[name] = "absent"
            self.spent.discard(name)
            self.follow(self.scheduler.unloaded(name, self.now_s))
            return
        late = self.stuck(name)
        self.phases[name] = "resident"
        self.used_s[name] = self.now_s
        self.follow(self.scheduler.loaded(name, self.now_s), in_order=not late, late=late)

    def stuck(self, name: str) -> bool:
        return next(each.stuck for each in self.scheduler.snapshot(self.now_s).models if each.id == name)

    def moving(self) -> list[str]:
        return sorted(name for name, phase in self.phases.items() if phase in ("loading", "unloading"))

    def resident(self) -> list[str]:
        return [name for name, phase in self.phases.items() if phase == "resident"]

    @invariant()
    def the_budget_holds(self) -> None:
        snapshot = self.scheduler.snapshot(self.now_s)
        assert snapshot.charged_bytes == sum(each.bytes for each in snapshot.models if each.phase != "absent")
        assert snapshot.charged_bytes <= BUDGET_BYTES

    @invariant()
    def both_accounts_agree(self) -> None:
        for state in self.scheduler.snapshot(self.now_s).models:
            assert state.phase == self.phases[state.id]
            assert state.leases == list(self.held.values()).count(state.id)
            assert state.pinned == (state.id in self.pinned)
            assert len(state.queue) == state.waiting
            assert state.waiting == sum(name == state.id for name, _ in self.waiting.values())

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """A waiter is there because something holds it up that will end."""
        if self.waiting:
            wake_at_s = self.scheduler.wake_at_s()
            assert self.held or self.moving() or wake_at_s is not None

    @invariant()
    def every_waiter_has_its_place(self) -> None:
        for ticket in self.waiting:
            wait = self.scheduler.waiting(ticket, self.now_s)
            assert wait is not None
            assert 1 <= wait.position <= len(self.waiting)
        assert all(self.scheduler.waiting(ticket, self.now_s) is None for ticket in self.held)

    def teardown(self) -> None:
        """Time goes on, loads end, whoever holds lets go: then nobody is left."""
        if self.device_lost:
            self.find_device()
        for _ in range(20 + 4 * self.arrivals):
            for ticket in sorted(self.held):
                self.used_s[self.held.pop(ticket)] = self.now_s
                self.follow(self.scheduler.release(ticket, self.now_s))
            for name in self.moving():
                self.arrive(name)
            self.now_s += 1
            self.follow(self.scheduler.tick(self.now_s))
            self.the_budget_holds()
            self.both_accounts_agree()
        assert not self.waiting
        assert not self.held


TestEvents = Events.TestCase
TestEvents.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
