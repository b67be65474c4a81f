"""One turn: what has become possible. How turns follow one another is in test_scheduler.py."""

from bench.beliefs import Beliefs
from vram.effect import Effect, Grant, Load, Refuse, Unload
from vram.model import ModelSpec
from vram.outlook import DEVICE_RECHECK_S
from vram.refusal import DeviceLost, NeverFits, OutOfMemory
from vram.state import State
from vram.turn import turn


def state(*models: ModelSpec, resident: tuple[str, ...] = ()) -> State:
    made = State(models, Beliefs(), 16, max_wait_s={"asr": 1, "tts": 2, "llm": 20}, queue_per_model=9, queue_total=9)
    for name in resident:
        made.slots[name].phase = "resident"
        made.charge(made.slots[name], made.slots[name].spec.estimate_bytes)
    return made


def ask(made: State, *models: str) -> None:
    for ticket, name in enumerate(models):
        made.queue.join(ticket, made.slots[name], 0)


def refused(effects: list[Effect]) -> list[type[BaseException]]:
    return [type(effect.error) for effect in effects if isinstance(effect, Refuse)]


SMALL, LARGE, MONSTER = ModelSpec("small", "llm", 4), ModelSpec("large", "llm", 13), ModelSpec("monster", "llm", 17)


def test_with_nobody_waiting_nothing_follows() -> None:
    assert turn(state(SMALL, resident=("small",)), 0) == []


def test_who_is_there_is_granted_before_room_is_made_for_who_is_not() -> None:
    made = state(SMALL, LARGE, resident=("small",))
    ask(made, "large", "small")

    assert turn(made, 0) == [Grant(1, "small")]
    assert made.held.keys() == {1}


def test_room_is_made_first_and_used_in_a_later_turn() -> None:
    made = state(SMALL, LARGE, resident=("small",))
    ask(made, "large")

    assert turn(made, 0) == [Unload("small", "room")]
    assert turn(made, 0) == []
    made.vacate(made.slots["small"])
    assert turn(made, 0) == [Load("large")]


def test_who_can_never_be_served_is_refused_and_holds_up_nobody() -> None:
    made = state(MONSTER, SMALL)
    ask(made, "monster", "small")

    effects = turn(made, 0)

    assert refused(effects) == [NeverFits]
    assert effects[1:] == [Load("small")]


def test_who_waits_for_a_load_is_refused_while_the_device_is_silent() -> None:
    made = state(SMALL)
    made.memory.error = "it is lost"
    ask(made, "small")

    (effect,) = turn(made, 0)

    assert isinstance(effect, Refuse)
    assert isinstance(effect.error, DeviceLost)
    assert effect.error.retry_after_s == DEVICE_RECHECK_S


def test_who_waits_for_more_than_can_ever_leave_is_refused_once_it_is_overdue() -> None:
    made = state(LARGE, ModelSpec("pinned", "asr", 4, pinned=True), resident=("pinned",))
    ask(made, "large")

    assert turn(made, 19) == []
    assert refused(turn(made, 20)) == [OutOfMemory]


def test_models_that_hold_more_than_the_budget_leave_as_far_as_they_must() -> None:
    made = state(SMALL, LARGE, resident=("small", "large"))

    assert turn(made, 0) == [Unload("small", "room")]
