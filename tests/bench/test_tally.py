"""What is printed of a run."""

from collections import Counter

from bench.tally import Tally


def test_it_says_what_happened_how_fast_and_what_was_found() -> None:
    tally = Tally(Counter(request=3, cancel=1), Counter(load=2), ticks=5, episodes=1, violations=["episode 1:1: lost"])

    assert [*tally.lines(seed=1, took_s=4, processor_s=2)] == [
        "4 events, 5 ticks, 1 episodes, seed 1",
        "1 violations",
        "  episode 1:1: lost",
        "4.0 s, of which 2.0 s on the processor: 2 events/s",
        "request 3, cancel 1",
        "load 2",
    ]
