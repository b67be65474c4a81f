"""Which sequence of a llama_context a prompt is given, and what it finds there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmux.config import Model
from providers import llamacpp
from providers.llama_memory import Held, LlamaMemory
from tests import checkpoints

SEQUENCES = 4
CELLS = 256


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[LlamaMemory]:
    checkpoints.write_llama_gguf(tmp_path / "tiny.gguf", template="{{ messages[0].content }}")
    entry = {"task": "llm", "runtime": "llama.cpp", "weights": "w", "file": "tiny.gguf", "estimate": "1 MB"}
    loaded = await llamacpp.load(Model.model_validate(entry), tmp_path)
    yield LlamaMemory(loaded._context, sequences=SEQUENCES, cells=CELLS, recurrent=False, kept_bytes=0)
    await loaded.close()


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
    running = compute(memory, [1, 2, 3, 4])
    assert found(memory, [1, 2, 3, 9]) == 3
    memory.release(running)
    assert found(memory, [1, 2, 9]) == 2


async def test_the_last_item_is_computed_in_any_case(memory: LlamaMemory) -> None:
    memory.release(compute(memory, [1, 2, 3]))
    assert memory.reusable([1, 2, 3]) == found(memory, [1, 2, 3]) == 2


async def test_nothing_is_found_where_nothing_is_wanted(memory: LlamaMemory) -> None:
    memory.release(compute(memory, [1, 2, 3]))
    assert found(memory, [1, 2, 3], reuse=False) == 0


async def test_the_next_turn_takes_the_place_of_the_last_and_another_beginning_does_not(memory: LlamaMemory) -> None:
    talk = compute(memory, [1, 2, 3, 4, 5, 6])
    memory.release(talk)
    assert memory.take([1, 2, 3, 4, 5, 7], reuse=True) is talk
    memory.release(talk)
    other = memory.take([1, 8], reuse=True)
    assert other is not talk
    assert (other.items, talk.items) == ([1], [1, 2, 3, 4, 5])


async def test_what_was_not_used_for_longest_gives_its_place(memory: LlamaMemory) -> None:
    for first in range(1, SEQUENCES + 1):
        memory.release(compute(memory, [first, 0, 0, 0]))
    found(memory, [1, 0, 0, 0])
    memory.release(compute(memory, [9, 0, 0, 0]))
    assert [memory.reusable([first, 0, 0, 0]) for first in (1, 2, 3, 4, 9)] == [3, 0, 3, 3, 3]


async def test_room_is_made_of_those_that_are_over_alone(memory: LlamaMemory) -> None:
    running = compute(memory, [1, 2, 3])
    memory.release(compute(memory, [4, 5, 6]))
    assert memory.make_room()
    assert not memory.make_room()
    assert running.items == [1, 2, 3]
    assert memory.reusable([4, 5, 6]) == 0


async def test_no_more_room_is_made_than_is_asked_for(memory: LlamaMemory) -> None:
    memory.release(compute(memory, [7] * 100))
    memory.release(compute(memory, [8] * 100))
    while memory.make_room(cells=100):
        pass
    assert [memory.reusable([item] * 100) for item in (7, 8)] == [0, 99]


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


async def test_what_cannot_be_trusted_is_gone(memory: LlamaMemory) -> None:
    memory.release(compute(memory, [1, 2, 3]))
    memory.clear()
    assert memory.reusable([1, 2, 3]) == 0
    assert not list(memory.running())
