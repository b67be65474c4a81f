"""What `python -m bench chat-one` makes of what it sees."""

import pytest

from bench.chat_one import TOKENS, Run, Verdict, middle, run_of, table, verdict


def test_text_counts_from_the_first_to_the_last_of_it() -> None:
    assert run_of(10.0, [10.5, 11.0, 12.5], TOKENS) == Run(first_s=0.5, tokens_per_s=(TOKENS - 1) / 2)


def test_an_answer_that_ended_early_is_not_compared() -> None:
    with pytest.raises(RuntimeError, match=f"7 tokens instead of {TOKENS}"):
        run_of(10.0, [10.5], 7)


def test_the_middle_is_that_of_each_figure() -> None:
    assert middle([Run(1, 30), Run(2, 10), Run(9, 20)]) == Run(2, 20)


def test_the_share_is_that_of_runs_beside_each_other() -> None:
    seen = verdict("llama.cpp", [(Run(1, 10), Run(2, 9)), (Run(1, 40), Run(2, 36)), (Run(1, 20), Run(2, 10))])
    assert (seen.alone, seen.gateway) == (Run(1, 20), Run(2, 10))
    assert seen.share == 0.9


@pytest.mark.parametrize(
    ("first_s", "share", "met"), [(0.139, 0.95, True), (0.141, 0.95, False), (0.139, 0.949, False), (0.05, 1.01, True)]
)
def test_both_goals_have_to_be_met(first_s: float, share: float, met: bool) -> None:
    seen = Verdict("llama.cpp", Run(0.100, 100), Run(first_s, 90), share)
    assert seen.met is met
    assert any(("met" if met else "MISSED") in line for line in table([seen]))
