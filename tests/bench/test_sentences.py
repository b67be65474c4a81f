from itertools import pairwise

from bench.sentences import sentences


def test_there_are_as_many_as_wanted_from_short_to_long() -> None:
    lengths = [len(text.split()) for text in sentences(100)]

    assert len(lengths) == 100
    assert lengths[0] <= 10
    assert 280 <= lengths[-1] <= 305
    assert all(one <= other + 8 for one, other in pairwise(lengths))


def test_they_are_always_the_same_and_never_twice_the_same() -> None:
    assert sentences(100) == sentences(100)
    assert len(set(sentences(100))) == 100
    assert sentences(5, seed=2) != sentences(5)


def test_no_sentence_is_longer_than_anybody_speaks() -> None:
    assert max(len(part.split()) for text in sentences(100) for part in text.split(". ")) <= 24
