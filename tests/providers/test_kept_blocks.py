"""What is kept of beginnings of prompts, and what of it is found again."""

from functools import partial

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from providers.kept_blocks import NOTHING, Border, KeptBlocks
from providers.prefix import image_item

BLOCK = KeptBlocks.BLOCK
BLOCK_BYTES = BLOCK * 8


def read(start: int, end: int) -> np.ndarray:
    return np.arange(start, end)


def numbers(first: int, start: int, end: int) -> np.ndarray:
    return read(start, end) + 1000 * first


def border() -> Border:
    return Border(np.zeros(1), [np.zeros(10)])


def test_whole_blocks_are_found_again() -> None:
    kept = KeptBlocks(10**6)
    prompt = list(range(3 * BLOCK + 5))
    assert kept.find(prompt, None) is NOTHING
    kept.keep(prompt, read)
    found = kept.find([*prompt[: 2 * BLOCK], -7, *prompt], None)
    assert found.length == 2 * BLOCK
    assert [block.tolist() for block in found.blocks] == [prompt[:BLOCK], prompt[BLOCK : 2 * BLOCK]]


def test_the_last_token_is_always_left() -> None:
    kept = KeptBlocks(10**6)
    prompt = list(range(2 * BLOCK))
    kept.keep(prompt, read)
    assert kept.find(prompt, None).length == 2 * BLOCK - 1


def test_a_state_is_found_at_its_border_alone() -> None:
    kept = KeptBlocks(10**6)
    prompt = list(range(2 * BLOCK))
    at = BLOCK + 10
    kept.keep(prompt[:at], read)
    assert kept.find(prompt, [at]) is NOTHING
    kept.keep_border(prompt[:at], border())
    assert kept.find(prompt, [5, at, at + 9]).length == at
    assert kept.find(prompt, [5, at - 1]) is NOTHING
    assert kept.find([1, *prompt], [at, at + 1]) is NOTHING


def test_a_state_is_of_no_use_without_all_of_its_blocks() -> None:
    kept = KeptBlocks(10**6)
    prompt = list(range(3 * BLOCK))
    kept.keep_border(prompt[:-1], border())
    assert kept.find(prompt, [len(prompt) - 1]) is NOTHING


def test_an_image_is_told_from_another() -> None:
    images = [np.full((4, 4, 3), shade, np.uint8) for shade in (1, 2)]
    prompts = [[image_item(image)] * BLOCK + [5] for image in images]
    kept = KeptBlocks(10**6)
    kept.keep(prompts[0], read)
    assert kept.find(prompts[0], None).length == BLOCK
    assert kept.find(prompts[1], None) is NOTHING


def test_what_ends_a_prompt_goes_before_what_begins_it() -> None:
    kept = KeptBlocks(3 * BLOCK_BYTES)
    prompt = list(range(5 * BLOCK))
    kept.keep(prompt, read)
    assert kept.bytes == 3 * BLOCK_BYTES
    assert kept.find(prompt, None).length == 3 * BLOCK


def test_what_was_used_last_stays() -> None:
    kept = KeptBlocks(2 * BLOCK_BYTES)
    one, two, three = ([start, *range(BLOCK)] for start in (1001, 1002, 1003))
    kept.keep(one, read)
    kept.keep(two, read)
    kept.find(one, None)
    kept.keep(three, read)
    assert [kept.find(prompt, None).length for prompt in (one, two, three)] == [BLOCK, 0, BLOCK]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4 * BLOCK), st.booleans()), max_size=12), st.integers(0, 6))
def test_never_more_than_is_allowed_and_never_something_else(
    kept: list[tuple[int, int, bool]], most_blocks: int
) -> None:
    prefixes = KeptBlocks(most_blocks * BLOCK_BYTES)
    for first, length, at_border in kept:
        prompt = [first, *range(length)]
        prefixes.keep(prompt, partial(numbers, first))
        if at_border:
            prefixes.keep_border(prompt, border())
        assert prefixes.bytes <= most_blocks * BLOCK_BYTES
        assert prefixes.bytes == sum(size for _, size in prefixes._kept.values())
        found = prefixes.find(prompt, None)
        for number, block in enumerate(found.blocks):
            assert block[0] == BLOCK * number + 1000 * first
    prefixes.clear()
    assert prefixes.bytes == 0
