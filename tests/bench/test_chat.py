"""What `python -m bench chat` makes of what it hears."""

from collections import Counter
from itertools import pairwise

import pytest

from bench.chat import Round, middle, order_of, question, share, table, together
from bench.chat_client import Heard


def test_no_two_questions_begin_alike() -> None:
    asked = [question(round_, stream)[0]["content"][:16] for round_ in ("1.0", "1.1", "8.0") for stream in range(8)]
    assert len(set(asked)) == len(asked)


def test_streams_count_together_and_the_middle_is_that_of_each_figure() -> None:
    one, other = Heard(0.1, [0.1] * 50, 100.0, 105.0, 51), Heard(0.3, [0.3] * 50, 101.0, 110.0, 49)
    assert together([one, other]).tokens_per_s == 10
    assert together([one, other]).first_s == pytest.approx(0.2)
    assert middle([Round(1, 3, 1, 1), Round(2, 1, 1, 1), Round(9, 2, 1, 1)]) == Round(2, 2, 1, 1)


def test_a_turn_is_compared_with_that_beside_it_however_fast_the_machine_is_then() -> None:
    mine = [Round(speed, 1, 1, 1) for speed in (9, 80, 18)]
    others = [Round(speed, 1, 1, 1) for speed in (10, 100, 30)]
    assert share(mine, others) == 0.8


def test_nobody_is_always_first_and_nobody_follows_always_the_same() -> None:
    turns = [order_of("abcd", turn) for turn in range(8)]
    assert all(sorted(turn) == list("abcd") for turn in turns)
    assert Counter(turn[0] for turn in turns) == dict.fromkeys("abcd", 2)
    asked = [name for turn in turns for name in turn] + ["a"]
    for name in "abcd":
        assert len({before for before, after in pairwise(asked) if after == name}) == 3


@pytest.mark.parametrize(
    ("streams", "gateway", "missed"),
    [(1, 96, ""), (1, 94, "94.0% of runtime"), (4, 92, "92.0% of xllamacpp"), (8, 95, ""), (8, 89, "89.0% of runtime")],
)
def test_the_gateway_is_held_to_its_goals(streams: int, gateway: float, missed: str) -> None:
    speeds = {"runtime": 100.0, "gateway": gateway, "xllamacpp": 100.0, "llama-cpp-python": 50.0}
    lines, met = table(streams, {name: [Round(speed, 1, 1, 1)] for name, speed in speeds.items()}, 0.001)
    assert met is not bool(missed)
    assert missed in "\n".join(lines)
