import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.word_errors import normal, word_error_rate, word_errors


@pytest.mark.parametrize(
    ("heard", "errors"), [("a b c", 0), ("a x c", 1), ("a c", 1), ("a b b c", 1), ("", 3), ("x y z w", 4)]
)
def test_a_wrong_a_missing_and_an_extra_word_are_an_error_each(heard: str, errors: int) -> None:
    assert word_errors(["a", "b", "c"], heard.split()) == errors


words = st.lists(st.sampled_from("abc"), max_size=8)


@given(words, words)
def test_errors_are_the_same_both_ways_and_no_more_than_there_are_words(one: list[str], other: list[str]) -> None:
    assert word_errors(one, other) == word_errors(other, one) <= max(len(one), len(other))
    assert (word_errors(one, other) == 0) == (one == other)


def test_case_and_punctuation_are_no_errors() -> None:
    assert normal("It\u2019s a café, isn't it?") == ["it's", "a", "cafe", "isn't", "it"]


def test_the_rate_is_of_all_words_together() -> None:
    assert word_error_rate([("a b c d", "a b c d"), ("e f g h i j", "e f")]) == pytest.approx(40)
