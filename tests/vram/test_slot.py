"""One model's record: who waits, and what the policy may think of it."""

import math
from dataclasses import replace
from typing import Any

import pytest

from vram.model import ModelSpec
from vram.policy import Waiter
from vram.slot import Slot


def slot(*, pinned: bool = False, idle_unload_s: float | None = None) -> Slot:
    spec = ModelSpec("llm", "llm", 9, max_concurrency=2, idle_unload_s=idle_unload_s)
    return Slot(spec, 20, pinned, phase="resident", last_used_s=100)


def test_the_oldest_waiter_is_known_whoever_leaves() -> None:
    model = slot()
    for ticket, now_s in ((3, 10.0), (5, 11.0), (8, 12.0)):
        model.join(ticket, now_s)
    assert (model.oldest, model.overdue_at_s) == (3, 30)

    model.leave(5)
    assert (model.oldest, model.overdue_at_s) == (3, 30)
    model.leave(3)
    assert (model.oldest, model.overdue_at_s) == (8, 32)
    model.leave(8)
    assert (model.waiters, model.overdue_at_s) == ({}, math.inf)
    with pytest.raises(KeyError):
        model.leave(8)


def test_it_is_overdue_from_its_max_wait_on() -> None:
    model = slot()
    model.join(3, 10)

    assert model.waiter(29.9) == Waiter("llm", "llm", 3, overdue=False)
    assert model.waiter(30) == Waiter("llm", "llm", 3, overdue=True)


def test_another_lease_may_begin_while_there_is_room_and_it_did_not_run_out_of_memory() -> None:
    assert slot().open
    changes: list[dict[str, Any]] = [{"leases": 2}, {"leases": 1, "spent": True}, {"phase": "unloading"}]
    for change in changes:
        assert not replace(slot(), **change).open


def test_only_an_idle_model_that_nobody_waits_for_and_nobody_pinned_may_be_evicted() -> None:
    model = slot()
    assert model.evictable
    model.join(3, 10)
    assert (model.idle, model.unclaimed, model.evictable) == (True, False, False)
    model.leave(3)
    model.pinned = True
    assert (model.unclaimed, model.evictable) == (True, False)
    model.pinned, model.leases = False, 1
    assert (model.idle, model.evictable) == (False, False)


def test_a_model_that_is_waited_for_is_as_good_as_busy_but_for_an_overdue_newcomer_that_came_before() -> None:
    model = slot()
    assert not model.resident(None, 0).busy
    model.join(5, 10)

    assert model.resident(None, 0).busy
    assert model.resident(Waiter("other", "llm", 3, overdue=False), 0).busy
    assert model.resident(Waiter("other", "llm", 7, overdue=True), 0).busy
    assert not model.resident(Waiter("other", "llm", 3, overdue=True), 0).busy


def test_it_expires_after_its_idle_time_unless_it_is_pinned_or_of_use() -> None:
    assert slot().idle_until_s() is None
    assert slot(idle_unload_s=300, pinned=True).idle_until_s() is None
    model = slot(idle_unload_s=300)
    assert model.idle_until_s() == 400
    model.leases = 1
    assert model.idle_until_s() is None


def test_the_length_of_leases_is_a_running_mean() -> None:
    model = slot()
    for lasted_s in (8, 4, 4):
        model.used(lasted_s)

    assert model.lease_s == 6.25


def used_and_asked_for(model: Slot, *gaps_s: float, load_s: float | None = 5) -> None:
    """It serves, is released at 100, and is asked for after each of these gaps."""
    for gap_s in gaps_s:
        model.used(1)
        model.last_used_s = 100
        model.asked(100 + gap_s, load_s)


def test_it_lingers_for_as_long_as_somebody_is_likely_to_be_back() -> None:
    model = slot()
    used_and_asked_for(model, 2, 50, 2, 2)
    assert (list(model.gaps_s), model.linger_s) == ([2, 50, 2, 2], 3)

    assert model.resident(None, 102.9).lingers
    assert not model.resident(None, 103).lingers
    model.join(1, 101)
    assert not model.resident(None, 101).lingers


def test_a_gap_is_counted_only_where_there_was_one() -> None:
    model = slot()
    model.asked(101, 5)  # it has never served
    model.used(1)
    model.leases = 1
    model.asked(102, 5)
    model.leases = 0
    model.join(1, 103)
    model.asked(104, 5)

    assert list(model.gaps_s) == []


def test_while_nobody_knows_what_a_load_takes_it_does_not_linger() -> None:
    model = slot()
    used_and_asked_for(model, 0.1, 0.1, load_s=None)
    assert model.linger_s == 0
