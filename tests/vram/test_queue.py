"""Who waits, how many may, and whom nobody may overtake."""

import pytest

from vram.model import ModelSpec
from vram.queue import Queue
from vram.slot import Slot
from vram.snapshot import Phase


def slot(name: str, phase: Phase = "absent", *, max_wait_s: float = 20) -> Slot:
    return Slot(ModelSpec(name, "llm", 9), max_wait_s, pinned=False, phase=phase)


def test_a_model_is_in_it_as_long_as_somebody_waits_for_it() -> None:
    queue, one, other = Queue(4, 8), slot("one"), slot("other")
    queue.join(1, one, 0)
    queue.join(2, other, 1)
    queue.join(3, one, 2)
    assert list(queue) == [one, other]
    assert (len(queue), 3 in queue, 4 in queue) == (2, True, False)

    queue.leave(1)
    assert list(queue) == [one, other]
    queue.leave(3)
    assert list(queue) == [other]
    with pytest.raises(KeyError):
        queue.leave(3)


def test_emptying_a_models_queue_tells_who_waited_oldest_first() -> None:
    queue, one, other = Queue(4, 8), slot("one"), slot("other")
    for ticket in (1, 2):
        queue.join(ticket, one, ticket)
    queue.join(3, other, 3)

    assert queue.empty(one) == (1, 2)
    assert queue.empty(one) == ()
    assert list(queue) == [other]


def test_it_is_full_for_a_model_or_in_all() -> None:
    queue, one, other = Queue(2, 3), slot("one"), slot("other")
    for ticket in (1, 2):
        assert queue.full(one, 0) is None
        queue.join(ticket, one, 0)
    assert queue.full(one, 0) == (2, 2)
    assert queue.full(other, 0) is None

    queue.join(3, other, 0)

    assert queue.full(slot("third"), 0) == (3, 3)


def test_who_would_be_granted_at_once_takes_no_place_unless_it_would_overtake_an_overdue_waiter() -> None:
    queue = Queue(1, 1)
    queue.join(1, slot("one"), 0)

    assert queue.full(slot("idle", "resident"), 19) is None
    assert queue.full(slot("idle", "resident"), 20) == (1, 1)


def test_the_oldest_overdue_waiter_for_a_swap_is_the_last_that_may_be_granted() -> None:
    queue = Queue(4, 8)
    queue.join(1, slot("full", "resident", max_wait_s=0), 0)
    queue.join(2, slot("patient", max_wait_s=100), 0)
    queue.join(3, slot("absent"), 1)
    queue.join(4, slot("loading", "loading"), 0)

    assert queue.last_ticket(19) is None
    assert queue.last_ticket(20) == 4
    assert queue.last_ticket(21) == 3
    assert queue.last_ticket(100) == 2
