"""What waiters and those who were turned away are told."""

import pytest

from vram.model import ModelSpec, Task
from vram.outlook import load_percent, retry_after_s, waits
from vram.slot import Slot
from vram.snapshot import Phase, Wait

LOAD_S = {"asr": 4.0, "llm": 20.0, "large": 30.0}


def slot(name: str, phase: Phase, *tickets: int, since_s: float = 0, task: Task = "llm") -> Slot:
    """Everybody arrived at 0."""
    made = Slot(ModelSpec(name, task, 9, max_concurrency=2), 1000, pinned=False, phase=phase, since_s=since_s)
    for ticket in tickets:
        made.join(ticket, 0)
    return made


def load_time(slot: Slot) -> float | None:
    return LOAD_S.get(slot.spec.id)


# Waits.


def test_who_waits_for_a_load_is_told_how_far_it_is() -> None:
    assert dict(waits([slot("llm", "loading", 1, 2)], load_time, now_s=5)) == {
        1: Wait(1, "load", 25, 15.0),
        2: Wait(2, "load", 25, 15.0),
    }


def test_who_waits_for_room_is_next_and_who_comes_after_it_is_in_the_queue() -> None:
    slots = [slot("large", "absent", 1, 2), slot("llm", "absent", 3), slot("asr", "absent", 4, task="asr")]

    assert dict(waits(slots, load_time, now_s=5)) == {
        4: Wait(1, "eviction", None, 4.0),
        1: Wait(2, "queue", None, 34.0),
        2: Wait(3, "queue", None, 34.0),
        3: Wait(4, "queue", None, 54.0),
    }


def test_a_load_under_way_is_waited_for_first() -> None:
    slots = [slot("large", "loading", 1), slot("llm", "absent", 2)]

    assert dict(waits(slots, load_time, now_s=10))[2] == Wait(1, "eviction", None, 40.0)


def test_who_waits_for_others_on_a_resident_model_is_in_its_queue_for_nobody_knows_how_long() -> None:
    assert dict(waits([slot("llm", "resident", 7, 8)], load_time, now_s=5)) == {
        7: Wait(1, "queue", None, None),
        8: Wait(2, "queue", None, None),
    }


def test_who_waits_for_a_model_that_is_leaving_waits_for_it_to_be_gone_and_loaded() -> None:
    spent = slot("large", "resident", 2)
    spent.spent = True

    told = dict(waits([slot("llm", "unloading", 1), spent], load_time, now_s=5))

    assert told == {1: Wait(1, "eviction", None, 20.0), 2: Wait(1, "eviction", None, 30.0)}


def test_nothing_is_made_up_where_nothing_was_measured() -> None:
    slots = [slot("new", "loading", 1), slot("newer", "absent", 2)]

    assert dict(waits(slots, load_time, now_s=5)) == {
        1: Wait(1, "load", None, None),
        2: Wait(1, "eviction", None, None),
    }


@pytest.mark.parametrize(
    ("phase", "now_s", "percent"), [("loading", 0, 0), ("loading", 10, 50), ("loading", 90, 99), ("resident", 10, None)]
)
def test_a_load_is_never_done_before_it_is(phase: Phase, now_s: float, percent: int | None) -> None:
    assert load_percent(slot("llm", phase), 20, now_s) == percent


def test_a_load_that_was_given_up_gets_nowhere() -> None:
    stuck = slot("llm", "loading")
    stuck.stuck = True

    assert load_percent(stuck, 20, 5) is None


# When to come back.


def test_a_refused_client_comes_back_after_the_loads_before_its_own_and_its_own() -> None:
    wanted = slot("llm", "absent", 3)

    assert retry_after_s(wanted, [wanted], load_time, 0) == 20
    assert retry_after_s(wanted, [wanted, slot("large", "absent", 1)], load_time, 0) == 50
    assert retry_after_s(wanted, [wanted, slot("large", "loading", 1)], load_time, now_s=25) == 25


def test_a_longer_queue_takes_longer_at_the_length_of_its_leases() -> None:
    wanted = slot("llm", "resident", 3, 4, 5, 6)
    wanted.used(7)

    assert retry_after_s(wanted, [wanted], load_time, 0) == 4 * 7 / 2


def test_five_seconds_where_nothing_was_measured_and_ten_minutes_at_most() -> None:
    unknown = slot("new", "absent", 1)
    assert retry_after_s(unknown, [unknown], load_time, 0) == 5
    unknown.used(10_000)
    assert retry_after_s(unknown, [unknown], load_time, 0) == 600
