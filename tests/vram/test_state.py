"""The steps that change what is known, and what follows from it."""

import pytest

from bench.beliefs import Beliefs
from vram.device import Reading
from vram.effect import Load, Unload
from vram.model import ModelSpec
from vram.state import State


@pytest.fixture
def state() -> State:
    models = [ModelSpec("llm", "llm", 9), ModelSpec("tts", "tts", 2), ModelSpec("pinned", "asr", 4, pinned=True)]
    return State(models, Beliefs(), 16, max_wait_s={"asr": 1, "tts": 2, "llm": 20}, queue_per_model=9, queue_total=9)


def test_a_model_is_charged_from_its_load_until_it_is_vacated(state: State) -> None:
    llm = state.slots["llm"]

    assert state.load(llm, 9, now_s=1) == Load("llm")
    assert (llm.phase, llm.since_s, state.memory.charged_bytes) == ("loading", 1, 9)
    assert state.unload([llm], 2, "room") == [Unload("llm", "room")]
    assert (llm.phase, state.memory.charged_bytes, state.unloading_bytes) == ("unloading", 9, 9)
    state.vacate(llm)
    assert (llm.phase, state.memory.charged_bytes, state.moving) == ("absent", 0, {})


def test_what_is_stuck_or_pinned_cannot_be_reached(state: State) -> None:
    state.load(state.slots["llm"], 9, 0)
    state.load(state.slots["pinned"], 4, 0)
    assert state.reachable_bytes == 12

    state.slots["llm"].stuck = True
    assert state.reachable_bytes == 3
    state.slots["llm"].phase = "unloading"
    assert state.unloading_bytes == 0


def test_a_second_try_needs_more_than_the_first_was_offered_or_all_there_is(state: State) -> None:
    llm = state.slots["llm"]
    llm.retrying, llm.offered_bytes = True, 11
    assert state.needed_bytes(llm) == 12

    llm.offered_bytes = 16
    assert state.needed_bytes(llm) == 16


def test_only_one_that_serves_alone_can_be_seen_to_grow(state: State) -> None:
    llm, tts = state.slots["llm"], state.slots["tts"]
    for slot in (llm, tts):
        state.charge(slot, slot.spec.estimate_bytes)
        slot.phase, slot.leases = "resident", 1
    state.held = {1: (llm, 0), 2: (tts, 0)}
    state.observe(Reading(16, 11, 11))
    state.observe(Reading(16, 12, 12), serving=True)
    assert state.memory.charged_bytes == 11

    del state.held[2]
    state.observe(Reading(16, 14, 14), serving=True)
    assert (llm.charged_bytes, state.sizes.bytes_for(llm.spec)) == (11, 11)
    assert state.memory.unreturned_bytes == 1
