"""Which sequence of a llama_context a prompt is given, and what it finds there."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from llmux.config import Model
from providers import llamacpp
from providers.llama_memory import Held, LlamaMemory
from providers.prefix import WORTH
from tests import checkpoints

SEQUENCES = 4
CELLS = 2048


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Any]:
    checkpoints.write_llama_gguf(tmp_path / "tiny.gguf", template="{{ messages[0].content }}")
    entry = {"task": "llm", "runtime": "llama.cpp", "weights": "w", "file": "tiny.gguf", "estimate": "1 MB"}
    loaded = await llamacpp.load(Model.model_validate(entry), tmp_path)
    yield loaded._context
    await loaded.close()


def memory_of(context: Any, kept_bytes: int) -> LlamaMemory:
    return LlamaMemory(context, sequences=SEQUENCES, cells=CELLS, recurrent=False, kept_bytes=kept_bytes)


@pytest.fixture
def memory(context: Any) -> LlamaMemory:
    """One without RAM for what gives way."""
    return memory_of(context, 0)


@pytest.fixture
def roomy(context: Any) -> LlamaMemory:
    return memory_of(context, 10**6)


def words(*numbers: int) -> list[int]:
    """As many items for each as are worth to be kept."""
    return [number for number in numbers for _ in range(WORTH)]


def compute(memory: LlamaMemory, prompt: list[int], *, reuse: bool = True) -> Held:
    """As an engine does, without any numbers."""
    held = memory.take(prompt, reuse=reuse)
    for item in prompt[len(held.items) :]:
        held.add(item)
    return held


def found(memory: LlamaMemory, prompt: list[int], *, reuse: bool = True) -> int:
    held = memory.take(prompt, reuse=reuse)
    memory.release(held)
    return len(held.items)


async def test_a_prompt_goes_on_where_another_one_is_or_was(memory: LlamaMemory) -> None:
    running = compute(memory, words(1, 2, 3, 4))
    assert found(memory, words(1, 2, 3, 9)) == len(words(1, 2, 3))
    memory.release(running)
    assert found(memory, words(1, 2, 9)) == len(words(1, 2))


async def test_the_last_item_is_computed_in_any_case(memory: LlamaMemory) -> None:
    prompt = words(1, 2, 3)
    memory.release(compute(memory, prompt))
    assert memory.reusable(prompt) == found(memory, prompt) == len(prompt) - 1


async def test_nothing_is_found_where_nothing_is_wanted(memory: LlamaMemory) -> None:
    memory.release(compute(memory, words(1, 2, 3)))
    assert found(memory, words(1, 2, 3), reuse=False) == 0


async def test_the_next_turn_takes_the_place_of_the_last_and_another_beginning_does_not(memory: LlamaMemory) -> None:
    talk = compute(memory, words(1, 2, 3, 4, 5, 6))
    memory.release(talk)
    assert memory.take(words(1, 2, 3, 4, 5, 7), reuse=True) is talk
    memory.release(talk)
    other = memory.take(words(1, 8), reuse=True)
    assert other is not talk
    assert (other.items, talk.items) == (words(1), words(1, 2, 3, 4, 5))


async def test_what_was_not_used_for_longest_gives_its_place(memory: LlamaMemory) -> None:
    for first in range(1, SEQUENCES + 1):
        memory.release(compute(memory, words(first, 0, 0, 0)))
    found(memory, words(1, 0, 0, 0))
    memory.release(compute(memory, words(9, 0, 0, 0)))
    reusable = [memory.reusable(words(first, 0, 0, 0)) for first in (1, 2, 3, 4, 9)]
    assert [length > 0 for length in reusable] == [True, False, True, True, True]


async def test_room_is_made_of_those_that_are_over_alone(memory: LlamaMemory) -> None:
    other = compute(memory, words(4, 5, 6))
    running = compute(memory, words(1, 2, 3))
    memory.release(other)
    assert memory.make_room()
    assert not memory.make_room()
    assert running.items == words(1, 2, 3)
    assert memory.reusable(words(4, 5, 6)) == 0


async def test_no_more_room_is_made_than_is_asked_for(memory: LlamaMemory) -> None:
    memory.release(compute(memory, [7] * 800))
    memory.release(compute(memory, [8] * 800))
    while memory.make_room(cells=800):
        pass
    assert [memory.reusable([item] * 800) for item in (7, 8)] == [0, 799]


async def test_an_image_is_left_out_or_taken_as_a_whole(memory: LlamaMemory) -> None:
    held = memory.take([1, -5, 2, 3], reuse=True)
    held.add(1)
    held.add(-5, positions=8, cells=64)
    held.add(2)
    memory.release(held)
    taken = memory.take([1, -5, 4], reuse=True)
    assert (taken.items, taken.end) == ([1, -5], 9)
    memory.release(taken)
    assert memory.take([1, -6, 4], reuse=True).end == 1


async def test_what_cannot_be_trusted_is_gone(roomy: LlamaMemory) -> None:
    for number in (1, 2):
        memory = compute(roomy, words(number, 0))
        roomy.release(memory)
    roomy.clear()
    assert [roomy.reusable(words(number, 0)) for number in (1, 2)] == [0, 0]
    assert not list(roomy.running())


async def test_whoever_is_over_gives_way_and_comes_back(roomy: LlamaMemory) -> None:
    for number in range(1, 3 * SEQUENCES):
        roomy.release(compute(roomy, words(number, 0, 0, 0)))
        assert [held.items for held in roomy._held if held.items] == [words(number, 0, 0, 0)]
    assert all(found(roomy, words(number, 0, 0, 0, 5)) == len(words(number, 0, 0, 0)) for number in (1, 2, 3))


async def test_what_comes_back_in_part_stays_in_ram_as_well(roomy: LlamaMemory) -> None:
    roomy.release(compute(roomy, words(1, 2, 3, 4)))
    roomy.release(compute(roomy, words(9, 9)))
    assert found(roomy, words(1, 2, 5)) == len(words(1, 2))
    assert found(roomy, words(1, 2, 3, 4, 5)) == len(words(1, 2, 3, 4))


async def test_little_is_not_kept_and_an_image_is_not_little(roomy: LlamaMemory) -> None:
    little = [1] * (WORTH - 1)
    roomy.release(compute(roomy, little))
    seen = roomy.take([2, -5, 3, 3], reuse=True)
    seen.add(2)
    seen.add(-5, positions=8, cells=100)
    seen.add(3)
    roomy.release(seen)
    roomy.release(compute(roomy, words(9, 9)))
    assert roomy.reusable([*little, 1]) == 0
    assert found(roomy, [2, -5, 3, 4]) == 3


async def test_a_short_copy_is_found_beside_a_long_one(roomy: LlamaMemory) -> None:
    roomy.release(compute(roomy, [*words(1), *[2] * 20 * WORTH]))
    roomy.release(compute(roomy, [*words(1), *[3] * WORTH]))
    roomy.release(compute(roomy, words(9, 9)))
    assert found(roomy, words(1, 4)) == len(words(1))


async def test_a_seed_finds_empty_cells_and_loses_nobody(roomy: LlamaMemory) -> None:
    roomy.release(compute(roomy, words(1, 2)))
    roomy.vacate()
    assert not any(held.items for held in roomy._held)
    assert roomy.reusable(words(1, 2, 3)) == len(words(1, 2))
