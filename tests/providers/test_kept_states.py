"""States of recurrent layers: which are found again, and which are let go."""

from hypothesis import given
from hypothesis import strategies as st

from providers.kept_states import KeptStates

ITEMS = st.lists(st.integers(0, 3), max_size=8)


def test_the_longest_beginning_that_is_kept_is_found() -> None:
    kept = KeptStates[str](100)
    kept.keep([1], "a", 1)
    kept.keep([1, 2, 3], "c", 1)
    kept.keep([1, 2], "b", 1)
    assert kept.longest([1, 2, 3, 4]) == (3, "c")
    assert kept.longest([1, 2, 3]) == (2, "b"), "the last item is computed in any case"
    assert kept.longest([2, 1]) is None


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept = KeptStates[str](3)
    for item in (1, 2, 3):
        kept.keep([item], "", 1)
    kept.longest([1, 0])
    kept.keep([4], "", 1)
    assert [[item] in kept for item in (1, 2, 3, 4)] == [True, False, True, True]


def test_what_is_of_no_use_any_more_can_be_dropped() -> None:
    kept = KeptStates[str](3)
    kept.keep([1], "", 1)
    kept.keep([2], "", 1)
    kept.drop(lambda prefix: prefix == [1])
    assert [[item] in kept for item in (1, 2)] == [False, True]


@given(st.lists(st.tuples(ITEMS, st.integers(0, 40))), st.integers(0, 60))
def test_no_more_than_the_bound_is_kept(states: list[tuple[list[int], int]], most: int) -> None:
    kept = KeptStates[None](most)
    for prefix, size in states:
        kept.keep(prefix, None, size)
        assert kept.bytes <= most
        assert (prefix in kept) == (size <= most)
