from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.speech import corpus, distance, missed, table, words_of

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


def result(served: float = 10.0, whole_s: float = 0.1) -> dict[str, Any]:
    row = {"sound_per_s": served, "first_byte_s": 0.1}
    return {
        "rates": [{"model": "hibari", "clients": 1, "served": row, "direct": {**row, "sound_per_s": 10.0}}],
        "first_byte_s": {"alone": 0.1, "whole": whole_s},
        "texts": 2,
        "words": 50,
        "word_errors": 1,
    }


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [("a b c", "a b c", 0), ("a b c", "a c", 1), ("a b", "a x b", 1), ("a b", "c d", 2), ("", "a", 1)],
)
def test_words_that_were_heard_otherwise_are_counted(said: str, heard: str, errors: int) -> None:
    assert distance(said.split(), heard.split()) == errors


@given(WORDS, WORDS)
def test_the_distance_is_the_same_both_ways_and_no_more_than_the_longer(said: list[str], heard: list[str]) -> None:
    assert distance(said, heard) == distance(heard, said) <= max(len(said), len(heard))


def test_marks_and_capitals_are_no_words() -> None:
    assert words_of("Well, it's DONE!") == ["well", "it's", "done"]


def test_the_corpus_is_the_same_each_time_and_of_all_lengths() -> None:
    texts = corpus(100)

    assert texts == corpus(100)
    assert len(texts) == 100
    assert min(map(len, texts)) <= 5
    assert 1_900 <= max(map(len, texts)) <= 2_000


def test_goals_that_are_reached_are_not_missed() -> None:
    assert missed(result()) == []


@pytest.mark.parametrize(("wrong", "says"), [({"served": 8.9}, "89% of direct"), ({"whole_s": 0.14}, "1.40 times")])
def test_a_goal_that_is_missed_is_named(wrong: dict[str, float], says: str) -> None:
    [goal] = missed(result(**wrong))
    assert says in goal


def test_the_table_has_what_was_measured() -> None:
    printed = "\n".join(table(result()))

    assert "| hibari | 1 | 10.00 | 10.00 | 100% |" in printed
    assert "word error rate 2.0%: 1 of 50 words, 2 texts" in printed
