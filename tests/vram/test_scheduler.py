"""The scheduler as its callers see it, without an event loop: what happened goes in, moves and leases come out."""

from dataclasses import dataclass, field

import pytest

from vram.device import DeviceError, Reading
from vram.effect import Effect, Grant, Load, Refuse, Unload, UnloadReason
from vram.ledger import Figures
from vram.model import ModelSpec, Task
from vram.outlook import DEVICE_RECHECK_S
from vram.refusal import Busy, DeviceLost, LoadFailed, NeverFits, OutOfMemory, QueueFull, Stopping
from vram.scheduler import RECHECK_S, Scheduler
from vram.snapshot import ModelState, Wait

GB = 10**9


def model(
    name: str, *, max_concurrency: int = 1, pinned: bool = False, idle_unload_s: float | None = None
) -> ModelSpec:
    """Named for what it is: 'asr 4' recognises speech in 4 GB."""
    task, size = name.split()[:2]
    tasks: dict[str, Task] = {"asr": "asr", "tts": "tts", "llm": "llm"}
    return ModelSpec(
        name,
        tasks[task],
        int(float(size) * GB),
        max_concurrency=max_concurrency,
        pinned=pinned,
        idle_unload_s=idle_unload_s,
    )


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


class Stage:
    """A scheduler, and a device that loads and unloads at once unless it is `slow`: then `finish` does."""

    def __init__(
        self,
        *models: ModelSpec | str,
        slow: bool = False,
        budget_bytes: int = 16 * GB,
        queue_per_model: int = 64,
        queue_total: int = 256,
    ) -> None:
        self.beliefs = Beliefs()
        self.scheduler = Scheduler(
            [model(each) if isinstance(each, str) else each for each in models],
            self.beliefs,
            budget_bytes,
            max_wait_s={"asr": 1, "tts": 2, "llm": 20},
            queue_per_model=queue_per_model,
            queue_total=queue_total,
            load_s=600,
        )
        self.slow = slow
        self.now_s = 0.0
        self.moves: list[str] = []
        self.granted: list[int] = []
        self.reasons: dict[str, UnloadReason] = {}
        """Why each model left, the last time."""
        self.refused: dict[int, BaseException] = {}
        self._arrivals = 0

    def request(self, name: str) -> int:
        self.now_s += 0.001
        self._arrivals += 1
        self.do(self.scheduler.request(self._arrivals, name, self.now_s))
        return self._arrivals

    def release(self, *tickets: int) -> None:
        for ticket in tickets:
            self.now_s += 0.001
            self.do(self.scheduler.release(ticket, self.now_s))

    def run_out_of_memory(self, ticket: int) -> None:
        self.do(self.scheduler.release(ticket, self.now_s, out_of_memory=True))

    def pin(self, name: str, pinned: bool) -> None:
        self.do(self.scheduler.pin(name, pinned, self.now_s))

    def unload(self, name: str) -> None:
        self.do(self.scheduler.unload(name, self.now_s))

    def cancel(self, ticket: int) -> None:
        self.do(self.scheduler.cancel(ticket, self.now_s))

    def use(self, *names: str) -> None:
        """Each is loaded, serves one request, and is left idle."""
        for name in names:
            ticket = self.request(name)
            if self.slow:
                self.finish(name)
            self.release(ticket)
        self.moves.clear()
        self.granted.clear()

    def finish(self, name: str, *, measured_bytes: int | None = None, reading: Reading | None = None) -> None:
        if self[name].phase == "loading":
            self.do(self.scheduler.loaded(name, self.now_s, reading, measured_bytes=measured_bytes))
        else:
            self.do(self.scheduler.unloaded(name, self.now_s, reading))

    def fail(self, name: str, error: BaseException, *, out_of_memory: bool = False) -> None:
        self.do(self.scheduler.load_failed(name, error, self.now_s, out_of_memory=out_of_memory))

    def wait(self, seconds: float, reading: Reading | DeviceError | None = None) -> None:
        self.now_s += seconds
        self.do(self.scheduler.tick(self.now_s, reading))

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Grant(ticket, _):
                    self.granted.append(ticket)
                case Refuse(ticket, error):
                    self.refused[ticket] = error
                case Load(name):
                    self.moves.append(f"load {name}")
                    if not self.slow:
                        self.finish(name)
                case Unload(name, reason):
                    self.reasons[name] = reason
                    self.moves.append(f"unload {name}")
                    if not self.slow:
                        self.finish(name)

    def __getitem__(self, name: str) -> ModelState:
        return next(each for each in self.scheduler.snapshot(self.now_s).models if each.id == name)

    @property
    def loaded(self) -> set[str]:
        return {each.id for each in self.scheduler.snapshot(self.now_s).models if each.phase == "resident"}


# The table of mission.md, row by row, on a 16 GB budget.


@pytest.mark.parametrize(
    ("loaded", "request_for", "evicted", "after"),
    [
        (("asr 4", "tts 2", "llm 4"), "llm 9", ["llm 4"], {"asr 4", "tts 2", "llm 9"}),
        (("asr 4", "tts 2", "llm 4"), "llm 13", ["llm 4", "tts 2", "asr 4"], {"llm 13"}),
        (("asr 4", "tts 2"), "llm 4", [], {"asr 4", "tts 2", "llm 4"}),
        (("llm 13",), "asr 4", ["llm 13"], {"asr 4"}),
        (("asr 4", "llm 4"), "llm 9", ["llm 4"], {"asr 4", "llm 9"}),
        (("llm 4",), "llm 9", [], {"llm 4", "llm 9"}),
    ],
)
def test_the_table(loaded: tuple[str, ...], request_for: str, evicted: list[str], after: set[str]) -> None:
    stage = Stage("asr 4", "tts 2", "llm 4", "llm 9", "llm 13")
    stage.use(*loaded)

    ticket = stage.request(request_for)

    assert stage.moves == [*(f"unload {name}" for name in evicted), f"load {request_for}"]
    assert stage.loaded == after
    assert stage.granted == [ticket]


@pytest.mark.parametrize("name", ["asr 4", "tts 2", "llm 9"])
def test_nothing_moves_for_a_model_already_loaded(name: str) -> None:
    stage = Stage("asr 4", "tts 2", "llm 9", "llm 4")
    stage.use("asr 4", "tts 2", "llm 9")

    ticket = stage.request(name)

    assert stage.moves == []
    assert stage.granted == [ticket]


def test_two_first_requests_for_one_model_cost_one_load_and_both_are_served() -> None:
    stage = Stage(model("llm 9", max_concurrency=2), slow=True)

    first, second = stage.request("llm 9"), stage.request("llm 9")
    stage.finish("llm 9")

    assert stage.moves == ["load llm 9"]
    assert stage.granted == [first, second]


# Swapping.


def test_a_newcomer_loads_only_after_what_it_evicts_is_gone() -> None:
    stage = Stage("llm 9", "llm 13", slow=True)
    stage.use("llm 9")

    ticket = stage.request("llm 13")
    assert stage.moves == ["unload llm 9"]
    stage.finish("llm 9")
    assert stage.moves == ["unload llm 9", "load llm 13"]
    assert stage.granted == []
    stage.finish("llm 13")

    assert stage.granted == [ticket]


def test_a_model_that_serves_is_not_evicted_until_it_is_released() -> None:
    stage = Stage("llm 9", "llm 13")
    serving = stage.request("llm 9")

    waiting = stage.request("llm 13")
    stage.wait(100)
    assert stage.loaded == {"llm 9"}
    stage.release(serving)

    assert stage.loaded == {"llm 13"}
    assert stage.granted == [serving, waiting]


def test_a_lower_class_waits_for_a_busy_one_before_it_pushes_out_an_idle_higher_one() -> None:
    stage = Stage("asr 4", "llm 9", "llm 7")
    stage.use("asr 4")
    stage.request("llm 9")

    waiting = stage.request("llm 7")
    stage.wait(19.9)
    assert stage.loaded == {"asr 4", "llm 9"}
    stage.wait(0.1)

    assert stage.loaded == {"llm 9", "llm 7"}
    assert waiting in stage.granted


def test_the_idle_higher_one_stays_when_the_busy_lower_one_is_released_in_time() -> None:
    stage = Stage("asr 4", "llm 9", "llm 7")
    stage.use("asr 4")
    serving = stage.request("llm 9")

    stage.request("llm 7")
    stage.release(serving)

    assert stage.loaded == {"asr 4", "llm 7"}


def test_a_pinned_model_is_never_evicted_and_whom_it_shuts_out_is_refused_in_the_end() -> None:
    stage = Stage(model("tts 6", pinned=True), "llm 13")
    stage.use("tts 6")

    ticket = stage.request("llm 13")
    stage.wait(20)

    assert stage.loaded == {"tts 6"}
    assert isinstance(stage.refused[ticket], OutOfMemory)


def test_who_fits_beside_a_waiter_and_its_victims_need_not_wait_with_it() -> None:
    stage = Stage("llm 9", "llm 10", "llm 4", "llm 7")
    stage.request("llm 9")
    stage.request("llm 10")

    small, large = stage.request("llm 4"), stage.request("llm 7")

    assert small in stage.granted
    assert large not in stage.granted
    assert stage.loaded == {"llm 9", "llm 4"}


def test_who_comes_later_does_not_take_the_room_that_a_waiter_was_promised() -> None:
    stage = Stage("llm 9", "llm 14", "llm 4")
    serving = stage.request("llm 9")
    first = stage.request("llm 14")

    stage.request("llm 4")
    assert stage.loaded == {"llm 9"}
    stage.release(serving)

    assert stage.loaded == {"llm 14"}
    assert stage.granted == [serving, first]


def test_who_comes_later_does_not_take_what_is_free_now_from_a_waiter_who_needs_it_with_what_is_leaving() -> None:
    stage = Stage("llm 3", "asr 6", "llm 9", "tts 2.5", "tts 2", slow=True)
    stage.use("llm 3", "llm 9")
    busy = stage.request("llm 9")
    stage.unload("llm 3")  # 4 GB are free, and 3 more will be
    first = stage.request("asr 6")  # fits then, and leaves 1 GB
    stage.request("tts 2.5")  # needs the room of the busy one

    stage.request("tts 2")

    assert stage.moves == ["unload llm 3"]
    stage.finish("llm 3")
    assert stage.moves == ["unload llm 3", "load asr 6"]
    assert not {first, busy} & set(stage.refused)


def test_who_comes_later_evicts_nothing_while_a_waiter_needs_what_is_idle() -> None:
    stage = Stage("llm 7", "llm 4", "llm 14", "llm 6")
    stage.use("llm 4")
    serving = stage.request("llm 7")
    first = stage.request("llm 14")

    stage.request("llm 6")
    assert stage.loaded == {"llm 7", "llm 4"}
    stage.release(serving)

    assert stage.granted == [serving, first]


def test_the_room_of_a_model_that_still_loads_can_be_waited_for() -> None:
    stage = Stage("llm 9", "llm 13", "llm 4", slow=True)
    stage.request("llm 9")
    stage.request("llm 13")

    stage.request("llm 4")

    assert stage.moves == ["load llm 9"]


def test_the_least_recently_used_is_the_one_released_first() -> None:
    stage = Stage(model("llm 6 a", max_concurrency=2), "llm 6 b", "llm 10")
    first, second = stage.request("llm 6 a"), stage.request("llm 6 b")
    stage.release(second, first)
    stage.moves.clear()

    stage.request("llm 10")

    assert stage.moves == ["unload llm 6 b", "load llm 10"]


def test_two_models_load_at_the_same_time_when_both_fit() -> None:
    stage = Stage("asr 4", "llm 9", slow=True)

    stage.request("llm 9")
    stage.request("asr 4")

    assert stage.moves == ["load llm 9", "load asr 4"]


# Lingering.


def coming_back(stage: Stage, name: str, gap_s: float = 0.1) -> None:
    """Whoever was answered by the model comes back at once, as with the title of a chat, and it loads in 5 s."""
    for _ in range(3):
        stage.release(stage.request(name))
        stage.now_s += gap_s
    stage.moves.clear()
    stage.granted.clear()
    stage.beliefs.load_s[name] = 5


def test_a_model_to_which_somebody_is_about_to_come_back_is_not_evicted_in_that_moment() -> None:
    stage = Stage("llm 9", "llm 13")
    coming_back(stage, "llm 9")
    first = stage.request("llm 9")
    swapping = stage.request("llm 13")

    stage.release(first)
    assert stage.moves == []
    assert stage.scheduler.wake_at_s() == pytest.approx(stage.now_s + 0.15, abs=0.01)
    stage.wait(0.1)
    title = stage.request("llm 9")
    stage.release(title)
    stage.wait(0.2)

    assert stage.granted == [first, title, swapping]
    assert stage.moves == ["unload llm 9", "load llm 13"]


def test_lingering_keeps_no_room_from_a_higher_class() -> None:
    stage = Stage("llm 13", "asr 4")
    coming_back(stage, "llm 13", gap_s=0)

    assert stage.request("asr 4") in stage.granted


def test_lingering_keeps_nobody_beyond_its_max_wait_s() -> None:
    stage = Stage("llm 9", "llm 13")
    coming_back(stage, "llm 9", gap_s=4)
    first = stage.request("llm 9")
    swapping = stage.request("llm 13")
    stage.wait(19)

    stage.release(first)
    assert stage.moves == []
    stage.wait(1)

    assert stage.granted == [first, swapping]


def test_a_model_that_nobody_comes_back_to_soon_leaves_at_once() -> None:
    stage = Stage("llm 9", "llm 13")
    coming_back(stage, "llm 9", gap_s=60)
    stage.release(stage.request("llm 9"))

    assert stage.request("llm 13") in stage.granted


# Order of service.


def test_waiters_of_a_higher_class_go_first_and_within_a_class_the_oldest() -> None:
    stage = Stage("llm 16 x", "llm 16 a", "llm 16 b", "tts 16", "asr 16")
    serving = stage.request("llm 16 x")
    waiting = {name: stage.request(name) for name in ("llm 16 b", "llm 16 a", "tts 16", "asr 16")}

    for _ in range(5):
        stage.release(stage.granted[-1])

    assert stage.granted == [serving, *(waiting[name] for name in ("asr 16", "tts 16", "llm 16 b", "llm 16 a"))]


@pytest.mark.parametrize("max_concurrency", [1, 2, 8])
def test_a_b_a_a_c_a_b_c_costs_three_loads(max_concurrency: int) -> None:
    stage = Stage(*(model(f"llm 16 {name}", max_concurrency=max_concurrency) for name in "abc"))

    tickets = [stage.request(f"llm 16 {name}") for name in "abaacabc"]
    for served in range(len(tickets)):
        stage.release(stage.granted[served])

    assert [move for move in stage.moves if move.startswith("load")] == [
        "load llm 16 a",
        "load llm 16 b",
        "load llm 16 c",
    ]
    assert sorted(stage.granted) == tickets


def test_a_loaded_model_is_overtaking_only_until_the_oldest_waiter_is_overdue() -> None:
    stage = Stage(model("llm 16 a", max_concurrency=2), "llm 16 b")
    serving = stage.request("llm 16 a")
    overtaken = stage.request("llm 16 b")

    stage.wait(19)
    overtaking = stage.request("llm 16 a")
    stage.wait(1)
    late = stage.request("llm 16 a")
    assert stage.granted == [serving, overtaking]
    stage.release(serving, overtaking)
    assert stage.granted == [serving, overtaking, overtaken]
    stage.release(overtaken)

    assert stage.granted == [serving, overtaking, overtaken, late]


def test_nobody_of_any_class_is_granted_before_an_earlier_waiter_that_is_overdue() -> None:
    stage = Stage("asr 4", "llm 9", "llm 12")
    stage.use("asr 4")
    serving = stage.request("llm 9")
    overdue = stage.request("llm 12")
    stage.wait(20)

    late = stage.request("asr 4")
    assert stage.granted == [serving]
    stage.release(serving)

    assert stage.granted == [serving, overdue, late]


def test_who_waits_for_its_own_model_holds_up_nobody_else() -> None:
    """It needs no swap: granting another resident model takes nothing from it."""
    stage = Stage("tts 2", "llm 9")
    stage.use("tts 2")
    stage.request("llm 9")
    stage.request("llm 9")
    stage.wait(100)

    assert stage.request("tts 2") in stage.granted


def test_an_idle_model_with_waiters_is_not_taken_from_them_by_a_later_arrival() -> None:
    stage = Stage("asr 4", "llm 12 a", "llm 12 b", "llm 4", slow=True)
    stage.use("llm 12 a")
    stage.request("llm 12 b")
    stage.finish("llm 12 a")
    stage.wait(20)
    stage.request("llm 4")
    stage.finish("llm 4")

    awaited = stage.request("llm 4")
    stage.request("asr 4")
    stage.wait(5)
    assert stage["llm 4"].phase == "resident"
    stage.finish("llm 12 b")

    assert stage["llm 4"].phase == "resident"
    assert awaited not in stage.refused


def test_leases_at_one_time_are_limited_per_model() -> None:
    stage = Stage(model("llm 9", max_concurrency=2))

    first, second, third = (stage.request("llm 9") for _ in range(3))
    assert stage.granted == [first, second]
    stage.release(second)

    assert stage.granted == [first, second, third]
    assert stage["llm 9"].leases == 2


# Refusals.


def test_a_model_larger_than_the_budget_is_refused_at_once() -> None:
    stage = Stage("llm 17")

    ticket = stage.request("llm 17")

    error = stage.refused[ticket]
    assert isinstance(error, NeverFits)
    assert (error.model, error.needed_bytes, error.budget_bytes) == ("llm 17", 17 * GB, 16 * GB)


def test_a_model_exactly_as_large_as_the_budget_is_served() -> None:
    stage = Stage("llm 16")

    assert stage.request("llm 16") in stage.granted


def test_a_full_queue_refuses_at_once_and_says_how_full_it_is() -> None:
    stage = Stage("llm 9", queue_per_model=2)
    waiting = [stage.request("llm 9") for _ in range(3)]

    error = stage.refused[stage.request("llm 9")]

    assert isinstance(error, QueueFull)
    assert (error.waiting, error.limit) == (2, 2)
    assert error.retry_after_s > 0
    assert not set(waiting) & set(stage.refused)


def test_a_queue_full_in_all_refuses_only_those_who_would_have_to_wait() -> None:
    stage = Stage("llm 9", "tts 2", queue_total=1)
    stage.use("tts 2")
    stage.request("llm 9")
    stage.request("llm 9")

    assert isinstance(stage.refused[stage.request("llm 9")], QueueFull)
    assert stage.request("tts 2") in stage.granted


def test_a_queue_full_in_all_refuses_who_may_not_overtake_although_its_model_is_idle() -> None:
    stage = Stage("llm 9", "tts 2", "llm 13", queue_total=1)
    stage.use("tts 2")
    stage.request("llm 9")
    stage.request("llm 13")
    stage.wait(20)

    assert isinstance(stage.refused[stage.request("tts 2")], QueueFull)


def test_a_refusal_is_known_before_asking() -> None:
    stage = Stage("llm 9", "llm 17", queue_per_model=1)

    assert stage.scheduler.refusal("llm 9", 0) is None
    assert isinstance(stage.scheduler.refusal("llm 17", 0), NeverFits)
    stage.request("llm 9")
    stage.request("llm 9")
    assert isinstance(stage.scheduler.refusal("llm 9", 0), QueueFull)
    stage.do(stage.scheduler.shutdown(0))
    assert isinstance(stage.scheduler.refusal("llm 9", 0), Stopping)


# Callers that go away.


def test_a_waiter_that_goes_away_before_its_load_leaves_the_resident_alone() -> None:
    stage = Stage("llm 9", "llm 13")
    serving = stage.request("llm 9")

    stage.cancel(stage.request("llm 13"))
    stage.release(serving)

    assert stage.loaded == {"llm 9"}
    assert stage["llm 13"].waiting == 0


def test_a_waiter_that_goes_away_during_its_load_leaves_the_model_loaded_and_idle() -> None:
    stage = Stage("llm 9", slow=True)
    ticket = stage.request("llm 9")

    stage.cancel(ticket)
    stage.finish("llm 9")

    assert stage.granted == []
    assert (stage["llm 9"].phase, stage["llm 9"].leases) == ("resident", 0)


def test_a_waiter_that_goes_away_during_the_evictions_for_it_starts_no_load() -> None:
    stage = Stage("llm 9", "llm 13", slow=True)
    stage.use("llm 9")

    stage.cancel(stage.request("llm 13"))
    stage.finish("llm 9")

    assert stage.moves == ["unload llm 9"]


def test_who_goes_away_just_as_it_is_granted_gives_the_lease_back() -> None:
    stage = Stage("llm 9")

    stage.cancel(stage.request("llm 9"))

    assert stage["llm 9"].leases == 0


def test_going_away_after_a_refusal_changes_nothing() -> None:
    stage = Stage("llm 17")

    stage.cancel(stage.request("llm 17"))

    assert stage["llm 17"].waiting == 0


# Loads that go wrong, and what other servers learned the hard way.


def test_an_error_of_the_loader_reaches_every_waiter_as_it_is_and_the_next_request_tries_again() -> None:
    stage = Stage("llm 9", slow=True)
    waiting = [stage.request("llm 9") for _ in range(3)]
    error = FileNotFoundError("weights")

    stage.fail("llm 9", error)
    assert [stage.refused[ticket] for ticket in waiting] == [error] * 3
    retried = stage.request("llm 9")
    stage.finish("llm 9")

    assert stage.granted == [retried]


def test_out_of_memory_on_load_evicts_all_that_is_idle_and_tries_once_more() -> None:
    stage = Stage("asr 4", "tts 2", "llm 9", slow=True)
    stage.use("asr 4", "tts 2")
    ticket = stage.request("llm 9")

    stage.fail("llm 9", MemoryError(), out_of_memory=True)
    assert stage.moves == ["load llm 9", "unload asr 4", "unload tts 2"]
    stage.finish("asr 4")
    assert "load llm 9" not in stage.moves[1:]
    stage.finish("tts 2")
    assert stage.moves[-1] == "load llm 9"
    stage.finish("llm 9")

    assert stage.granted == [ticket]


def test_after_a_second_try_that_succeeded_the_next_load_has_a_second_try_again() -> None:
    stage = Stage("llm 9", "llm 16", slow=True)
    first = stage.request("llm 9")
    stage.fail("llm 9", MemoryError(), out_of_memory=True)
    stage.finish("llm 9")
    stage.release(first)
    stage.cancel(stage.request("llm 16"))
    stage.finish("llm 9")

    later = stage.request("llm 9")
    stage.fail("llm 9", MemoryError(), out_of_memory=True)

    assert later not in stage.refused
    assert stage["llm 9"].phase == "loading"


def test_a_second_try_that_nobody_waits_for_any_more_asks_for_no_more_room_later() -> None:
    stage = Stage("llm 4", "llm 9", slow=True)
    stage.use("llm 9")
    gone = stage.request("llm 4")
    stage.fail("llm 4", MemoryError(), out_of_memory=True)
    stage.cancel(gone)
    stage.finish("llm 9")
    stage.use("llm 9")

    ticket = stage.request("llm 4")
    stage.finish("llm 4")

    assert stage.moves == ["load llm 4"]
    assert stage.granted == [ticket]


def test_nothing_is_evicted_for_a_load_that_ran_out_of_memory_when_nobody_waits_for_it() -> None:
    stage = Stage("llm 4", "llm 9", slow=True)
    stage.use("llm 9")
    stage.cancel(stage.request("llm 4"))

    stage.fail("llm 4", MemoryError(), out_of_memory=True)

    assert stage.moves == ["load llm 4"]
    assert stage.beliefs.bytes == {}


def test_who_joins_a_second_try_that_runs_out_of_memory_is_refused() -> None:
    stage = Stage("llm 4", slow=True)
    gone = stage.request("llm 4")
    stage.fail("llm 4", MemoryError(), out_of_memory=True)
    stage.cancel(gone)
    joined = stage.request("llm 4")

    stage.fail("llm 4", MemoryError(), out_of_memory=True)

    assert isinstance(stage.refused[joined], NeverFits)


def test_out_of_memory_twice_is_refused_and_remembered() -> None:
    stage = Stage("asr 4", "llm 9", slow=True)
    serving = stage.request("asr 4")
    stage.finish("asr 4")
    ticket = stage.request("llm 9")
    cause = MemoryError()

    stage.fail("llm 9", MemoryError(), out_of_memory=True)
    stage.release(serving)
    stage.finish("asr 4")
    stage.fail("llm 9", cause, out_of_memory=True)

    error = stage.refused[ticket]
    assert isinstance(error, NeverFits)  # the second time it had the whole budget
    assert error.__cause__ is cause
    assert isinstance(stage.refused[stage.request("llm 9")], NeverFits)
    assert stage.scheduler.empty


def test_out_of_memory_with_less_than_the_budget_may_pass() -> None:
    stage = Stage("tts 2", "llm 9", slow=True)
    stage.request("tts 2")
    stage.finish("tts 2")
    stage.wait(0, Reading(total_bytes=16 * GB, used_bytes=3 * GB, own_bytes=2 * GB))
    ticket = stage.request("llm 9")
    stage.fail("llm 9", MemoryError(), out_of_memory=True)
    stage.release(1)
    stage.finish("tts 2")

    stage.fail("llm 9", MemoryError(), out_of_memory=True)

    assert type(stage.refused[ticket]) is OutOfMemory
    assert stage["llm 9"].bytes == 15 * GB + 1


def test_a_load_that_hangs_is_given_up_and_what_comes_of_it_later_is_unloaded() -> None:
    stage = Stage("llm 9", "llm 13", "tts 2", slow=True)
    ticket = stage.request("llm 9")

    stage.wait(600)
    error = stage.refused[ticket]
    assert isinstance(error, LoadFailed)
    assert isinstance(error.__cause__, TimeoutError)
    assert isinstance(stage.refused[stage.request("llm 9")], LoadFailed)
    others = stage.request("tts 2"), stage.request("llm 13")
    assert stage.moves == ["load llm 9", "load tts 2"]  # its memory may be in use
    stage.finish("llm 9")
    assert stage.moves[-1] == "unload llm 9"
    assert stage.scheduler.refusal("llm 9", stage.now_s) is None
    stage.finish("llm 9")
    stage.finish("tts 2")
    assert stage.moves[-1] == "load llm 13"
    stage.finish("llm 13")

    assert set(stage.granted) == set(others)


def test_a_load_that_ends_after_it_was_given_up_makes_room_for_who_waits_at_once() -> None:
    stage = Stage("llm 9", "asr 4", "llm 14", slow=True)
    stage.use("asr 4")
    stage.request("llm 9")
    stage.wait(600)
    stage.request("llm 14")
    assert stage.moves == ["load llm 9"]

    stage.finish("llm 9")

    assert stage.moves == ["load llm 9", "unload llm 9", "unload asr 4"]


def test_who_waits_for_the_room_of_a_load_that_hangs_is_refused_once_it_is_overdue() -> None:
    stage = Stage("llm 9", "llm 13", slow=True)
    stage.request("llm 9")
    stage.wait(600)

    ticket = stage.request("llm 13")
    assert ticket not in stage.refused
    stage.wait(20)

    assert type(stage.refused[ticket]) is OutOfMemory


def test_a_request_for_a_model_that_is_being_unloaded_loads_it_again() -> None:
    stage = Stage("llm 9", "llm 13", slow=True)
    stage.use("llm 9")
    first = stage.request("llm 13")

    again = stage.request("llm 9")
    stage.finish("llm 9")
    stage.finish("llm 13")
    stage.release(first)
    stage.finish("llm 13")
    stage.finish("llm 9")

    assert stage.granted == [first, again]


def test_memory_that_did_not_come_back_counts_as_used() -> None:
    stage = Stage("llm 9", "llm 15", "llm 16", slow=True)
    stage.use("llm 9")
    waiting = stage.request("llm 15")
    left_behind = Reading(total_bytes=16 * GB, used_bytes=2 * GB, own_bytes=2 * GB)

    stage.finish("llm 9", reading=left_behind)
    snapshot = stage.scheduler.snapshot(stage.now_s)
    assert (snapshot.unreturned_bytes, snapshot.available_bytes) == (2 * GB, 14 * GB)
    assert stage.moves == ["unload llm 9"]
    assert stage.scheduler.wake_at_s() == pytest.approx(RECHECK_S)
    stage.wait(1, Reading(total_bytes=16 * GB, used_bytes=0, own_bytes=0))

    assert stage.moves == ["unload llm 9", "load llm 15"]
    assert waiting not in stage.refused


def test_a_reading_while_a_model_moves_finds_nothing_left_behind() -> None:
    stage = Stage("llm 9", slow=True)
    stage.request("llm 9")

    stage.wait(1, Reading(total_bytes=16 * GB, used_bytes=12 * GB, own_bytes=12 * GB))

    assert stage.scheduler.snapshot(stage.now_s).unreturned_bytes == 0


def test_other_processes_count_as_used_and_who_waits_for_them_in_vain_is_refused() -> None:
    stage = Stage("llm 9", "llm 4")
    stage.wait(0, Reading(total_bytes=16 * GB, used_bytes=10 * GB, own_bytes=0))

    shut_out, fitting = stage.request("llm 9"), stage.request("llm 4")
    stage.wait(20)

    assert type(stage.refused[shut_out]) is OutOfMemory
    assert stage.granted == [fitting]
    assert stage.scheduler.snapshot(stage.now_s).others_bytes == 10 * GB


def test_other_processes_take_nothing_from_a_budget_below_the_card() -> None:
    stage = Stage("llm 16")
    stage.wait(0, Reading(total_bytes=32 * GB, used_bytes=16 * GB, own_bytes=None))

    assert stage.request("llm 16") in stage.granted


def test_where_the_driver_tells_no_processes_apart_all_beyond_the_models_is_others() -> None:
    stage = Stage("llm 9", "llm 4")
    stage.use("llm 9")

    stage.wait(0, Reading(total_bytes=16 * GB, used_bytes=11 * GB, own_bytes=None))

    assert stage.scheduler.snapshot(stage.now_s).others_bytes == 2 * GB


def test_a_model_that_proves_larger_than_it_was_thought_pushes_the_others_back_into_the_budget() -> None:
    stage = Stage("tts 2", "llm 4 a", "llm 4 b", slow=True)
    stage.use("tts 2", "llm 4 a")
    ticket = stage.request("llm 4 b")

    stage.finish("llm 4 b", measured_bytes=11 * GB)

    assert stage.moves == ["load llm 4 b", "unload llm 4 a"]
    assert stage.granted == [ticket]
    assert stage["llm 4 b"].bytes == 11 * GB


# Time.


# Pin, unload, idle.


def test_a_pin_keeps_a_resident_model_and_unpinning_it_makes_room_at_once() -> None:
    stage = Stage("llm 9", "llm 13")
    stage.use("llm 9")
    stage.pin("llm 9", True)
    assert stage["llm 9"].pinned

    waiting = stage.request("llm 13")
    assert stage.moves == []
    stage.pin("llm 9", False)

    assert stage.moves == ["unload llm 9", "load llm 13"]
    assert stage.granted == [waiting]


def test_a_pinned_model_is_passed_over_for_one_that_would_go_later() -> None:
    stage = Stage("llm 4", "asr 4", "llm 9")
    stage.use("llm 4", "asr 4")
    stage.pin("llm 4", True)

    stage.request("llm 9")

    assert stage.moves == ["unload asr 4", "load llm 9"]


def test_unloading_takes_even_a_pinned_model_that_is_idle_and_nothing_that_is_of_use() -> None:
    stage = Stage(model("llm 4", pinned=True), "llm 9", "llm 13", slow=True)
    stage.unload("llm 4")  # it is not there
    assert stage.moves == []

    stage.use("llm 4")
    stage.unload("llm 4")
    stage.unload("llm 4")  # it is leaving already
    assert stage.moves == ["unload llm 4"]
    assert stage.reasons == {"llm 4": "asked"}

    ticket = stage.request("llm 9")
    with pytest.raises(Busy, match="llm 9 is being waited for"):
        stage.unload("llm 9")
    stage.finish("llm 9")
    with pytest.raises(Busy, match="llm 9 serves at present"):
        stage.unload("llm 9")
    stage.release(ticket)
    stage.request("llm 13")
    stage.wait(600)
    with pytest.raises(Busy, match="llm 9 hangs in unloading"):
        stage.unload("llm 9")
    with pytest.raises(KeyError):
        stage.unload("unknown")


def test_an_idle_model_leaves_after_its_idle_unload_s_and_not_before() -> None:
    stage = Stage(model("llm 4", idle_unload_s=300))
    stage.use("llm 4")
    used_s = stage.now_s
    assert stage.scheduler.wake_at_s() == used_s + 300

    stage.wait(299)
    assert stage.moves == []
    stage.wait(1)

    assert stage.moves == ["unload llm 4"]
    assert stage.reasons == {"llm 4": "idle"}
    assert stage.scheduler.wake_at_s() is None


def test_a_model_that_serves_or_is_pinned_does_not_expire() -> None:
    stage = Stage(model("llm 4", idle_unload_s=300), model("tts 2", idle_unload_s=300, pinned=True))
    stage.use("tts 2")
    stage.request("llm 4")
    stage.wait(10_000)

    assert stage.loaded == {"llm 4", "tts 2"}


# What Ollama's scheduler learnt the hard way. Memory that returns half a second after an unload, and an error in an
# unload, are in test_arbiter.py.


def test_ollama_a_model_that_expires_while_a_request_arrives_is_kept_or_loaded_again() -> None:
    stage = Stage(model("llm 4", idle_unload_s=300), slow=True)
    stage.use("llm 4")
    stage.now_s += 300
    just_in_time = stage.request("llm 4")
    stage.wait(0)
    assert stage.granted == [just_in_time]
    assert stage.moves == []

    stage.release(just_in_time)
    stage.wait(300)
    too_late = stage.request("llm 4")
    stage.finish("llm 4")
    stage.finish("llm 4")

    assert stage.moves == ["unload llm 4", "load llm 4"]
    assert stage.granted == [just_in_time, too_late]


def test_ollama_a_burst_of_first_requests_costs_one_load() -> None:
    stage = Stage(model("llm 4", max_concurrency=4), slow=True)
    tickets = [stage.request("llm 4") for _ in range(10)]
    assert stage.moves == ["load llm 4"]

    stage.finish("llm 4")

    assert stage.moves == ["load llm 4"]
    assert stage.granted == tickets[:4]


def test_ollama_a_load_that_runs_out_of_memory_survives_by_one_retry_after_evicting_everything() -> None:
    stage = Stage("asr 4", "tts 2", "llm 9", slow=True)
    stage.use("asr 4", "tts 2")
    ticket = stage.request("llm 9")

    stage.fail("llm 9", MemoryError(), out_of_memory=True)
    assert sorted(stage.moves[1:]) == ["unload asr 4", "unload tts 2"]
    for name in ("tts 2", "asr 4", "llm 9"):
        stage.finish(name)

    assert stage.granted == [ticket]


# Out of memory while serving.


def test_a_model_that_runs_out_of_memory_while_it_serves_is_granted_to_nobody_and_leaves_once_it_is_idle() -> None:
    stage = Stage(model("llm 4", max_concurrency=3, pinned=True), slow=True)
    first, second = stage.request("llm 4"), stage.request("llm 4")
    stage.finish("llm 4")
    stage.run_out_of_memory(first)
    waiting = stage.request("llm 4")
    assert stage.moves == ["load llm 4"]

    stage.release(second)
    assert stage.moves == ["load llm 4", "unload llm 4"]
    assert stage.reasons == {"llm 4": "reload"}
    stage.finish("llm 4")
    stage.finish("llm 4")

    assert stage.granted == [first, second, waiting]


def test_what_ran_out_of_memory_beside_a_pinned_model_is_served_again_with_what_can_be_had() -> None:
    stage = Stage("llm 9", model("asr 4", pinned=True))
    stage.use("asr 4")
    stage.run_out_of_memory(stage.request("llm 9"))

    assert stage.beliefs.bytes["llm 9"] == 99 * GB // 10
    assert stage.request("llm 9") in stage.granted
    assert stage.moves == ["load llm 9", "unload llm 9", "load llm 9"]


def test_what_ran_out_of_memory_beside_others_gets_more_than_was_free_next_time() -> None:
    stage = Stage("llm 9", "asr 4")
    stage.use("asr 4")
    stage.run_out_of_memory(stage.request("llm 9"))

    assert stage.beliefs.bytes["llm 9"] == 12 * GB + 1
    stage.request("llm 9")
    assert stage.moves == ["load llm 9", "unload llm 9", "unload asr 4", "load llm 9"]


def test_what_ran_out_of_memory_with_all_to_itself_can_still_be_loaded() -> None:
    stage = Stage("llm 9", "llm 15")
    stage.run_out_of_memory(stage.request("llm 9"))
    stage.run_out_of_memory(stage.request("llm 15"))

    assert stage.beliefs.bytes == {"llm 9": 9.9 * GB, "llm 15": 16 * GB}
    assert stage.request("llm 15") in stage.granted


# A device that does not answer.


def test_while_the_device_does_not_answer_nothing_is_loaded_and_what_is_resident_is_granted() -> None:
    stage = Stage("llm 4", "tts 2", "asr 4", slow=True)
    stage.use("llm 4")
    stage.request("asr 4")
    queued = stage.request("tts 2")  # loading beside it
    lost = DeviceError("GPU is lost")
    stage.wait(0.5, lost)

    assert stage.request("llm 4") in stage.granted
    stage.finish("tts 2")
    assert queued in stage.granted
    stage.do(stage.scheduler.load_failed("asr 4", OSError(), stage.now_s, lost))
    error = stage.refused[stage.request("asr 4")]

    assert isinstance(error, DeviceLost)
    assert (error.reason, error.retry_after_s) == ("GPU is lost", DEVICE_RECHECK_S)
    assert isinstance(stage.scheduler.refusal("asr 4", stage.now_s), DeviceLost)
    assert stage.scheduler.snapshot(stage.now_s).device_error == "GPU is lost"


def test_who_waits_for_room_is_refused_when_the_device_stops_answering() -> None:
    stage = Stage("llm 9", "llm 13")
    stage.request("llm 9")
    waiting = stage.request("llm 13")

    stage.wait(1, DeviceError("GPU is lost"))

    assert isinstance(stage.refused[waiting], DeviceLost)


def test_a_silent_device_is_asked_again_and_loads_go_on_when_it_answers() -> None:
    stage = Stage("llm 9")
    stage.wait(1, DeviceError("GPU is lost"))
    assert stage.scheduler.wake_at_s() == stage.now_s + DEVICE_RECHECK_S

    stage.wait(DEVICE_RECHECK_S, Reading(total_bytes=16 * GB, used_bytes=0, own_bytes=0))

    assert stage.scheduler.snapshot(stage.now_s).device_error is None
    assert stage.request("llm 9") in stage.granted


# What a model holds while it serves.


def own(gigabytes: float) -> Reading:
    return Reading(total_bytes=16 * GB, used_bytes=int(gigabytes * GB), own_bytes=int(gigabytes * GB))


def test_what_the_only_busy_model_has_grown_by_is_charged_and_remembered() -> None:
    stage = Stage("llm 9", "tts 2")
    stage.use("tts 2")
    ticket = stage.request("llm 9")
    stage.wait(1, own(11))

    stage.do(stage.scheduler.release(ticket, stage.now_s, own(12)))

    assert stage["llm 9"].bytes == 10 * GB
    assert stage.beliefs.bytes == {"llm 9": 10 * GB}


def test_growth_after_a_second_try_is_remembered_without_the_room_that_the_try_was_given() -> None:
    stage = Stage("llm 4", "llm 9", slow=True)
    stage.use("llm 9")
    ticket = stage.request("llm 4")
    stage.fail("llm 4", MemoryError(), out_of_memory=True)
    stage.finish("llm 9")
    stage.finish("llm 4", reading=own(5))
    assert stage["llm 4"].bytes == 7 * GB + 1

    stage.do(stage.scheduler.release(ticket, stage.now_s, own(9)))

    assert stage["llm 4"].bytes == 9 * GB
    assert stage.beliefs.bytes["llm 4"] < 6 * GB


def test_growth_beyond_the_budget_pushes_the_idle_out() -> None:
    stage = Stage("llm 9", "asr 4", "tts 2")
    stage.use("asr 4", "tts 2")
    stage.request("llm 9")
    stage.wait(1, Reading(total_bytes=24 * GB, used_bytes=15 * GB, own_bytes=15 * GB))

    stage.wait(1, Reading(total_bytes=24 * GB, used_bytes=17 * GB, own_bytes=17 * GB))

    assert stage.moves == ["load llm 9", "unload tts 2"]
    assert stage["llm 9"].bytes == 11 * GB


def test_what_loads_took_while_the_device_was_silent_is_not_the_growth_of_who_serves_when_it_answers() -> None:
    stage = Stage("llm 4 a", "llm 4 b", slow=True)
    lost = DeviceError("GPU is lost")
    tickets = {name: stage.request(name) for name in ("llm 4 a", "llm 4 b")}
    for name in tickets:
        stage.do(stage.scheduler.loaded(name, stage.now_s, lost))
    stage.do(stage.scheduler.release(tickets["llm 4 b"], stage.now_s, lost))

    stage.do(stage.scheduler.release(tickets["llm 4 a"], stage.now_s, own(11)))  # b took 7

    assert stage.beliefs.bytes == {}
    assert stage["llm 4 a"].bytes == 4 * GB
    assert stage.scheduler.snapshot(stage.now_s).unreturned_bytes == 3 * GB


def test_growth_of_several_busy_models_is_nobodys_and_counts_as_used() -> None:
    stage = Stage("llm 9", "tts 2")
    stage.request("tts 2")
    stage.do(stage.scheduler.release(stage.request("llm 9"), stage.now_s, own(13)))

    snapshot = stage.scheduler.snapshot(stage.now_s)
    assert stage.beliefs.bytes == {}
    assert (snapshot.unreturned_bytes, snapshot.available_bytes) == (2 * GB, 3 * GB)


# What people are told.


def test_a_waiter_knows_its_place_and_what_it_waits_for() -> None:
    stage = Stage("llm 9", "llm 13", "tts 2", slow=True)
    stage.beliefs.load_s = {"llm 9": 20, "llm 13": 30}
    held = stage.request("llm 9")
    loading = stage.scheduler.waiting(held, stage.now_s + 5)
    assert loading == Wait(1, "load", 25, 15)
    stage.now_s += 20
    stage.finish("llm 9")

    first, second = stage.request("llm 13"), stage.request("llm 13")

    assert stage.scheduler.waiting(held, stage.now_s) is None
    assert stage.scheduler.waiting(first, stage.now_s) == Wait(1, "eviction", None, 30)
    assert stage.scheduler.waiting(second, stage.now_s) == Wait(2, "eviction", None, 30)
    assert [wait.position for wait in stage["llm 13"].queue] == [1, 2]
    assert stage["llm 13"].predicted_bytes == 13 * GB


def test_who_is_refused_is_told_to_come_back_after_the_loads_and_leases_before_it() -> None:
    stage = Stage("llm 9", "llm 13", queue_per_model=1)
    stage.beliefs.load_s = {"llm 13": 30}
    ticket = stage.request("llm 9")
    stage.request("llm 13")

    error = stage.refused[stage.request("llm 13")]
    assert isinstance(error, QueueFull)
    assert error.retry_after_s == 30

    stage.now_s += 8
    stage.cancel(ticket)
    assert stage.scheduler.retry_after_s("llm 9", stage.now_s) > 0


# Time, and the end.


def test_it_wakes_when_a_waiter_becomes_overdue_and_when_a_load_takes_too_long() -> None:
    stage = Stage("llm 9", "llm 13")
    assert stage.scheduler.wake_at_s() is None
    stage.request("llm 9")
    assert stage.scheduler.wake_at_s() is None
    stage.request("llm 13")
    assert stage.scheduler.wake_at_s() == pytest.approx(stage.now_s + 20)

    slow = Stage("llm 9", slow=True)
    slow.cancel(slow.request("llm 9"))
    assert slow.scheduler.wake_at_s() == pytest.approx(slow.now_s + 600)


def test_a_waiter_that_becomes_overdue_just_as_another_is_refused_is_not_forgotten() -> None:
    stage = Stage("asr 4", "llm 9", "llm 7", queue_per_model=1)
    stage.use("asr 4")
    stage.request("llm 9")
    stage.request("llm 9")
    overdue = stage.request("llm 7")
    stage.now_s += 20

    assert isinstance(stage.refused[stage.request("llm 9")], QueueFull)

    assert overdue in stage.granted  # in the room of the idle asr


@pytest.mark.parametrize("late_s", [0.0, 0.5])
def test_it_wakes_for_whoever_became_overdue_since_the_last_event(late_s: float) -> None:
    stage = Stage("llm 9", "llm 13")
    stage.request("llm 9")
    stage.request("llm 13")
    overdue_s = stage.now_s + 20

    stage.now_s = overdue_s + late_s

    assert stage.scheduler.wake_at_s() == pytest.approx(overdue_s)
    stage.wait(0)
    assert stage.scheduler.wake_at_s() is None


# The end.


def test_shutdown_refuses_waiters_unloads_the_idle_and_the_busy_once_they_are_released() -> None:
    stage = Stage("asr 4", "llm 9", "llm 13", "tts 2", slow=True)
    stage.use("asr 4")
    serving = stage.request("llm 9")
    stage.finish("llm 9")
    waiting, loading = stage.request("llm 13"), stage.request("tts 2")
    stage.moves.clear()

    stage.do(stage.scheduler.shutdown(stage.now_s))
    assert {type(stage.refused[ticket]) for ticket in (waiting, loading, stage.request("asr 4"))} == {Stopping}
    assert stage.moves == ["unload asr 4"]
    stage.finish("tts 2")
    stage.release(serving)
    assert stage.moves == ["unload asr 4", "unload tts 2", "unload llm 9"]
    for name in ("asr 4", "tts 2", "llm 9"):
        stage.finish(name)

    assert stage.scheduler.empty
