"""What `python -m bench chat-one` makes of what it sees."""

import pytest

from bench.chat_one import TOKENS, Run, Verdict, middle, run_of, table


def test_text_counts_from_the_first_to_the_last_of_it() -> None:
    assert run_of(10.0, [10.5, 11.0, 12.5], TOKENS) == Run(first_s=0.5, tokens_per_s=(TOKENS - 1) / 2)


def test_an_answer_that_ended_early_is_not_compared() -> None:
    with pytest.raises(RuntimeError, match=f"7 tokens instead of {TOKENS}"):
        run_of(10.0, [10.5], 7)


def test_the_middle_is_that_of_each_figure() -> None:
    assert middle([Run(1, 30), Run(2, 10), Run(9, 20)]) == Run(2, 20)


@pytest.mark.parametrize(
    ("gateway", "met"),
    [(Run(0.139, 95), True), (Run(0.141, 95), False), (Run(0.139, 94.9), False), (Run(0.05, 101), True)],
)
def test_both_goals_have_to_be_met(gateway: Run, met: bool) -> None:
    verdict = Verdict("llama.cpp", Run(0.100, 100), gateway)
    assert verdict.met is met
    assert any(("met" if met else "MISSED") in line for line in table([verdict]))
