"""Who leaves, and who is next: rules of mission.md as properties over any set of residents."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram.model import PRIORITY, Task
from vram.policy import (
    Plan,
    Resident,
    Waiter,
    eviction_order,
    evictions,
    linger_s,
    make_room,
    serving_order,
)

tasks: st.SearchStrategy[Task] = st.sampled_from(("asr", "tts", "llm"))
sizes = st.integers(min_value=1, max_value=16)
rules = settings(max_examples=150, deadline=None)


@st.composite
def residents(draw: st.DrawFn) -> list[Resident]:
    rows = draw(
        st.lists(
            st.tuples(tasks, sizes, st.integers(0, 9), st.booleans(), st.sampled_from((False, False, True))), max_size=8
        )
    )
    return [
        Resident(id=f"m{number}", task=task, bytes=taken, last_used_s=float(used), busy=busy, pinned=pinned)
        for number, (task, taken, used, busy, pinned) in enumerate(rows)
    ]


def resident(
    name: str, taken: int, *, used: float = 0, busy: bool = False, pinned: bool = False, lingers: bool = False
) -> Resident:
    task: Task = "asr" if name.startswith("asr") else "tts" if name.startswith("tts") else "llm"
    return Resident(id=name, task=task, bytes=taken, last_used_s=used, busy=busy, pinned=pinned, lingers=lingers)


def names(chosen: Iterable[Resident] | None) -> list[str]:
    assert chosen is not None
    return [each.id for each in chosen]


def freed(chosen: Iterable[Resident]) -> int:
    return sum(each.bytes for each in chosen)


def test_the_lowest_class_goes_first_and_within_it_the_least_recently_used() -> None:
    present = [
        resident("asr", 4, used=1),
        resident("llm-new", 4, used=9),
        resident("tts", 2, used=0),
        resident("llm-old", 4, used=3),
    ]

    assert names(eviction_order(present)) == ["llm-old", "llm-new", "tts", "asr"]


@rules
@given(residents(), sizes)
def test_evictions_are_the_shortest_prefix_of_the_idle_order(present: list[Resident], missing: int) -> None:
    idle = [each for each in eviction_order(present) if not each.busy]
    enough = [count for count in range(len(idle) + 1) if freed(idle[:count]) >= missing]

    assert evictions(present, missing) == (tuple(idle[: enough[0]]) if enough else None)


@rules
@given(residents(), sizes)
def test_busy_and_pinned_models_are_never_evicted(present: list[Resident], missing: int) -> None:
    assert not any(each.busy or each.pinned for each in evictions(present, missing) or ())


@rules
@given(tasks, sizes, residents(), st.booleans())
def test_a_plan_makes_room_with_idle_models_now_or_waits_for_a_busy_one(
    task: Task, missing: int, present: list[Resident], overdue: bool
) -> None:
    plan = make_room(task, missing, present, overdue=overdue)

    if plan is None:
        assert freed(each for each in present if not each.pinned) < missing
    else:
        assert freed(plan.victims) >= missing
        assert not any(each.pinned for each in plan.victims)
        assert plan.now == (not any(each.busy for each in plan.victims))


@rules
@given(tasks, sizes, residents())
def test_a_higher_class_leaves_at_once_only_where_waiting_for_lower_ones_would_not_do(
    task: Task, missing: int, present: list[Resident]
) -> None:
    plan = make_room(task, missing, present, overdue=False)

    if plan is not None and plan.now:
        highest = max((PRIORITY[each.task] for each in plan.victims), default=0)
        lower = [each for each in present if PRIORITY[each.task] < highest and not each.pinned]
        assert highest <= PRIORITY[task] or freed(lower) < missing


@rules
@given(tasks, sizes, residents())
def test_an_overdue_newcomer_waits_only_when_the_idle_are_too_few(
    task: Task, missing: int, present: list[Resident]
) -> None:
    idle = evictions(present, missing)

    if idle is not None:
        assert make_room(task, missing, present, overdue=True) == Plan(idle, now=True)


def test_an_llm_waits_for_a_busy_llm_rather_than_push_out_an_idle_asr() -> None:
    present = [resident("asr", 4), resident("llm-busy", 9, busy=True)]

    patient = make_room("llm", 4, present, overdue=False)
    overdue = make_room("llm", 4, present, overdue=True)

    assert patient is not None
    assert overdue is not None
    assert (names(patient.victims), patient.now) == (["llm-busy"], False)
    assert (names(overdue.victims), overdue.now) == (["asr"], True)


def test_a_model_of_the_same_class_leaves_although_a_lower_one_is_busy() -> None:
    plan = make_room("tts", 2, [resident("tts", 2), resident("llm", 9, busy=True)], overdue=False)

    assert plan is not None
    assert (names(plan.victims), plan.now) == (["tts"], True)


def test_an_idle_asr_is_spared_where_idle_and_busy_tts_would_do() -> None:
    present = [resident("asr", 4), resident("tts-idle", 2), resident("tts-busy", 3, used=1, busy=True)]

    plan = make_room("llm", 5, present, overdue=False)

    assert plan is not None
    assert (names(plan.victims), plan.now) == (["tts-idle", "tts-busy"], False)


def waiter(task: Task, ticket: int, *, overdue: bool = False) -> Waiter:
    return Waiter(model=f"{task}{ticket}", task=task, ticket=ticket, overdue=overdue)


def test_waiters_of_a_higher_class_go_first_and_within_a_class_the_oldest() -> None:
    order = serving_order([waiter("llm", 1), waiter("tts", 2), waiter("asr", 4), waiter("asr", 3), waiter("llm", 0)])

    assert [each.ticket for each in order] == [3, 4, 2, 0, 1]


def test_overdue_waiters_go_before_all_others_in_the_order_of_arrival() -> None:
    order = serving_order(
        [waiter("asr", 1), waiter("asr", 3, overdue=True), waiter("llm", 2, overdue=True), waiter("llm", 0)]
    )

    assert [each.ticket for each in order] == [2, 3, 1, 0]


def test_the_decision_does_not_depend_on_the_order_of_what_is_given() -> None:
    present = [resident("asr", 4, used=1), resident("llm-b", 3, used=5), resident("llm-a", 3, used=2)]

    plans = {make_room("llm", 5, list(order), overdue=False) for order in itertools.permutations(present)}

    assert len(plans) == 1


# Models that linger.


def test_one_that_lingers_is_waited_for_by_its_own_class_and_a_lower_one() -> None:
    lingering = resident("tts", 9, lingers=True)

    assert make_room("tts", 9, [lingering], overdue=False) == Plan((lingering,), now=False)
    assert make_room("llm", 9, [lingering], overdue=False) == Plan((lingering,), now=False)


def test_one_that_lingers_leaves_at_once_for_a_higher_class_and_for_whoever_is_overdue() -> None:
    lingering = resident("tts", 9, lingers=True)

    assert make_room("asr", 9, [lingering], overdue=False) == Plan((lingering,), now=True)
    assert make_room("llm", 9, [lingering], overdue=True) == Plan((lingering,), now=True)


def test_nobody_else_leaves_in_the_place_of_one_that_lingers() -> None:
    lingering, newer = resident("llm-old", 9, used=1, lingers=True), resident("llm-new", 9, used=2)

    assert make_room("llm", 9, [lingering, newer], overdue=False) == Plan((lingering,), now=False)


def test_lingering_is_of_no_account_to_whoever_needs_another_model_gone() -> None:
    older, lingering = resident("llm-old", 9, used=1), resident("llm-new", 9, used=2, lingers=True)

    assert make_room("llm", 9, [older, lingering], overdue=False) == Plan((older,), now=True)


def test_a_model_lingers_half_as_long_again_as_the_gap_that_pays() -> None:
    assert linger_s([0.1, 60, 0.1, 90], load_s=5) == pytest.approx(0.15)
    assert linger_s([1.5, 60, 2, 1], load_s=7) == 3


def test_a_model_to_which_nobody_comes_back_soon_does_not_linger() -> None:
    assert linger_s([], load_s=5) == 0
    assert linger_s([60, 90, 30], load_s=5) == 0
    assert linger_s([4, 60, 60, 60], load_s=5) == 0  # 4 s each time would save one load in four


def test_a_model_does_not_linger_for_longer_than_it_takes_to_load() -> None:
    assert linger_s([4, 4, 4], load_s=5) == 5
    assert linger_s([1, 1], load_s=0) == 0


@rules
@given(st.lists(st.floats(0, 30), max_size=8), st.floats(0, 10))
def test_no_limit_would_have_cost_less(gaps_s: list[float], load_s: float) -> None:
    def cost_s(limit_s: float) -> float:
        return sum(gap_s if gap_s <= limit_s else limit_s + load_s for gap_s in gaps_s)

    chosen = min(cost_s(limit_s) for limit_s in (0, *gaps_s) if min(1.5 * limit_s, load_s) == linger_s(gaps_s, load_s))
    assert all(chosen <= cost_s(limit_s) + 1e-6 for limit_s in (0, *gaps_s, load_s))
