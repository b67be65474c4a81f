"""The checks can fail: each fault that is planted here is found, and named."""

from collections.abc import Callable
from typing import Any

import pytest

from bench import chaos
from bench.account import Violation
from bench.beliefs import Beliefs
from bench.card import Card
from bench.invariants import Invariants
from vram import policy, turn
from vram.effect import Effect, Grant, Load, Unload
from vram.memory import Memory
from vram.model import ModelSpec
from vram.policy import Resident
from vram.scheduler import Scheduler
from vram.slot import Slot
from vram.state import State


def found(build: chaos.Build = Scheduler) -> str:
    """The first violations that there are."""
    violations: list[str] = []
    for seed in range(1, 11):
        violations += chaos.chaos(6_000, seed, build).violations
        if violations:
            break
    return "\n".join(violations)


class EvictsOneTooMany(Scheduler):
    def _advance(self, now_s: float) -> list[Effect]:
        effects = super()._advance(now_s)
        if any(isinstance(effect, Unload) and effect.reason == "room" for effect in effects):
            effects += self._state.unload([slot for slot in self._slots.values() if slot.evictable][:1], now_s, "room")
        return effects


class GrantsTwice(Scheduler):
    def _advance(self, now_s: float) -> list[Effect]:
        effects = super()._advance(now_s)
        return effects + [effect for effect in effects if isinstance(effect, Grant)]


class LoadsTwice(Scheduler):
    def _advance(self, now_s: float) -> list[Effect]:
        effects = super()._advance(now_s)
        return effects + [effect for effect in effects if isinstance(effect, Load)]


class ForgetsAGrant(Scheduler):
    def _advance(self, now_s: float) -> list[Effect]:
        return [effect for effect in super()._advance(now_s) if not isinstance(effect, Grant) or effect.ticket % 50]


class LeaksALease(Scheduler):
    def release(self, ticket: int, *facts: Any, **more: Any) -> list[Effect]:
        return super().release(ticket, *facts, **more) if ticket % 50 else []


class IsMorePatient(Scheduler):
    """Than those who wait."""

    def __init__(self, models: Any, sizes: Any, budget_bytes: int, *, max_wait_s: Any, **limits: Any) -> None:
        patience_s = {task: 100 * limit_s for task, limit_s in max_wait_s.items()}
        super().__init__(models, sizes, budget_bytes, max_wait_s=patience_s, **limits)


class NeverWakes(Scheduler):
    def wake_at_s(self) -> None:
        return None


class NeverUnloadsTheIdleAtTheEnd(Scheduler):
    def shutdown(self, now_s: float) -> list[Effect]:
        self._expiring.clear()
        return []


class NeverForgetsToRetry(Scheduler):
    """Not even when nobody waits any more."""

    def cancel(self, ticket: int, now_s: float) -> list[Effect]:
        retrying = [slot for slot in self._slots.values() if slot.retrying]
        effects = super().cancel(ticket, now_s)
        for slot in retrying:
            slot.retrying = True
        return effects


class RetriesForNobody(Scheduler):
    def load_failed(self, *facts: Any, **more: Any) -> list[Effect]:
        idle = [slot for slot in self._slots.values() if slot.evictable]
        return super().load_failed(*facts, **more) + self._state.unload(
            [slot for slot in idle if slot.evictable], 0, "room"
        )


class NeverRetries(Scheduler):
    def load_failed(self, *facts: Any, out_of_memory: bool = False, **more: Any) -> list[Effect]:
        return super().load_failed(*facts, **more)


class KnowsNoBudget(Scheduler):
    def __init__(self, models: Any, sizes: Any, budget_bytes: int, **limits: Any) -> None:
        super().__init__(models, sizes, 2 * budget_bytes, **limits)


@pytest.mark.parametrize(
    ("fault", "violation"),
    [
        (EvictsOneTooMany, "needless eviction of"),
        (GrantsTwice, "is granted"),
        (LoadsTwice, "is loaded while it is loading"),
        (ForgetsAGrant, "the scheduler says"),
        (LeaksALease, "the scheduler says"),
        (IsMorePatient, "may not be overtaken any more"),
        (NeverWakes, "nothing will ever happen"),
        (NeverUnloadsTheIdleAtTheEnd, "stopped, but models are left"),
        (NeverForgetsToRetry, "is said to need"),
        (RetriesForNobody, "needless eviction of"),
        (NeverRetries, "stays idle although a load ran out of memory"),
        (KnowsNoBudget, "does not fit the budget"),
    ],
)
def test_a_planted_fault_is_found(fault: chaos.Build, violation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "REST_EVENTS", 2_000)
    assert violation in found(fault)


def compares_with_what_it_did_not_see(memory: Memory, *facts: Any, **more: Any) -> int:
    memory._baseline = True
    return OBSERVE(memory, *facts, **more)


OBSERVE = Memory.observe
NEEDED_BYTES = State.needed_bytes


@pytest.mark.parametrize(
    ("owner", "part", "fault", "violation"),
    [
        (State, "observe", lambda *_, **__: None, "as it was read"),
        (State, "needed_bytes", lambda *facts: NEEDED_BYTES(*facts) // 2, "charged less than it is believed to take"),
        (Memory, "observe", compares_with_what_it_did_not_see, "is believed to have grown"),
        (turn, "_return_to_budget", lambda *_: [], "should have left"),
    ],
)
def test_a_fault_in_a_part_of_it_is_found(
    owner: Any, part: str, fault: Callable[..., Any], violation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, part, fault)
    assert violation in found()


@pytest.fixture
def only_true_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Invariants, "_check_charges", lambda *_: None)
    monkeypatch.setattr(Invariants, "_check_evictions", lambda *_: None)


@pytest.mark.usefixtures("only_true_sizes")
def test_a_budget_that_is_exceeded_is_found_by_true_sizes_alone() -> None:
    assert "over the budget by" in found(KnowsNoBudget)


@pytest.mark.usefixtures("only_true_sizes")
@pytest.mark.parametrize("stays", [False, True])
def test_a_model_that_proves_larger_pushes_out_the_idle_by_true_sizes_alone(
    stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stays:
        monkeypatch.setattr(turn, "_return_to_budget", lambda *_: [])
    models = [ModelSpec("small", "llm", 8), ModelSpec("surprise", "llm", 8)]
    card, beliefs = Card(24, "own", {"small": 8, "surprise": 12}), Beliefs()
    limits: dict[str, Any] = {"max_wait_s": chaos.MAX_WAIT_S, "load_s": chaos.LOAD_S}
    scheduler = Scheduler(models, beliefs, 16, queue_per_model=9, queue_total=9, **limits)
    account = Invariants(models, scheduler, beliefs, card, 16, **limits)

    for ticket, model in enumerate(card.true_bytes):
        account.request(ticket, model, 0)
        account.follow(scheduler.request(ticket, model, 0))
        card.load(model)
        account.loaded(model, 1)
        account.measured(model, card.true_bytes[model])
        effects = scheduler.loaded(model, 1, card.read(), measured_bytes=card.true_bytes[model])
        if stays and model == "surprise":
            with pytest.raises(Violation, match="stays 4 over the budget although a model is idle"):
                account.follow(effects, card.read())
        else:
            account.follow(effects, card.read())
            account.release(ticket, 1)
            account.follow(scheduler.release(ticket, 1, card.read()), card.read())


@pytest.mark.parametrize(
    ("change", "violation"),
    [({"busy": False}, "is unloaded although it serves"), ({"pinned": False}, "is evicted although it is pinned")],
)
def test_an_eviction_of_a_busy_or_pinned_model_is_found(
    change: dict[str, Any], violation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Slot.resident
    monkeypatch.setattr(Slot, "resident", lambda *facts: honest(*facts)._replace(**change))
    assert violation in found()


def test_the_wrong_order_of_eviction_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = policy.eviction_order
    monkeypatch.setattr(policy, "eviction_order", lambda residents: honest(residents)[::-1])
    assert "needless eviction of" in found()


def test_a_policy_that_takes_one_too_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = policy.evictions

    def generous(residents: Any, missing_bytes: int) -> tuple[Resident, ...] | None:
        few, many = honest(residents, missing_bytes), honest(residents, missing_bytes + 3_000)
        return many or few

    monkeypatch.setattr(policy, "evictions", generous)
    assert "needless eviction of" in found()


def test_more_leases_than_a_model_may_have_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slot, "open", property(lambda slot: slot.phase == "resident"))
    assert "has more leases than it may" in found()
