"""Which beginnings are the same, and which states are kept for them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from providers.prefix import WORTH, borders, common, image_item

ITEMS = st.lists(st.integers(0, 3), max_size=12)
START, END = 100, 101


def turn(words: int) -> list[int]:
    return [START, *[7] * words, END, 8]


@given(ITEMS, ITEMS)
def test_what_is_common_is_in_both_and_what_follows_differs(one: list[int], other: list[int]) -> None:
    length = common(one, other)
    assert one[:length] == other[:length]
    assert length in (len(one), len(other)) or one[length] != other[length]


def test_an_image_is_an_item_of_its_own() -> None:
    one, other = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    assert image_item(one) == image_item(one.copy()) < 0
    assert len({image_item(one), image_item(other), image_item(np.zeros((2, 8, 3), np.uint8))}) == 3


def test_states_are_kept_after_the_first_message_and_before_the_models_turn() -> None:
    system, talk = turn(200), [*turn(90), *turn(80)]
    prompt = [*system, *talk, START, 9]
    assert borders(prompt, {START, END}) == [len(system), len(system) + len(talk)]


def test_a_border_that_is_hardly_worth_it_is_none() -> None:
    assert borders([*turn(3), START, 9], {START, END}) == []
    assert borders([*turn(3), *turn(WORTH), START, 9], {START, END}) == [WORTH + 3 + 6]
    assert borders([7] * 500, {START, END}) == []


def test_an_image_is_worth_it_alone() -> None:
    assert borders([START, -5, END, START, 9], {START, END}) == [3]
