"""When a piece is sent on, by a clock that the test moves."""

from collections.abc import Callable, Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from providers.pace import LONGEST_S, PIECES_PER_S, Pace, interval_s
from providers.runtime import Piece

INTERVAL_S = 0.04
MOMENT_S = INTERVAL_S / 4


def paced(pieces: Iterable[Piece], now: Callable[[], float]) -> Iterator[Piece]:
    """What an answer sends that has to leave so much time between two pieces."""
    pace = Pace(now)
    for piece in pieces:
        if (due := pace.feed(piece, INTERVAL_S)) is not None:
            yield due


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s

    def writing(self, gaps_s: list[float], *, ends: bool = True) -> Iterator[Piece]:
        """One letter after each gap."""
        for number, gap_s in enumerate(gaps_s):
            self.s += gap_s
            last = ends and number == len(gaps_s) - 1
            yield Piece(chr(ord("a") + number % 26), 1, 5, "stop" if last else None)


def sent(gaps_s: list[float]) -> list[str]:
    clock = Clock()
    return [piece.text for piece in paced(clock.writing(gaps_s), clock)]


def test_the_first_piece_is_sent_at_once() -> None:
    clock = Clock()
    assert next(paced(clock.writing([0.0, 0.0], ends=False), clock)) == Piece("a", 1, 5)


def test_a_slow_model_is_heard_word_for_word() -> None:
    assert sent([INTERVAL_S * 1.01] * 4) == ["a", "b", "c", "d"]


def test_what_a_fast_model_writes_within_a_moment_goes_as_one_piece() -> None:
    assert sent([MOMENT_S * 1.01] * 10) == ["a", "bcde", "fghi", "j"]


@given(st.lists(st.floats(0, 3 * INTERVAL_S), min_size=1, max_size=60))
def test_nothing_is_lost_and_only_the_last_piece_ends_it(gaps_s: list[float]) -> None:
    clock = Clock()
    pieces = list(paced(clock.writing(gaps_s), clock))
    written = list(Clock().writing(gaps_s))
    assert "".join(piece.text for piece in pieces) == "".join(piece.text for piece in written)
    assert sum(piece.tokens for piece in pieces) == len(gaps_s)
    assert [piece.finish_reason for piece in pieces] == [*[None] * (len(pieces) - 1), "stop"]
    assert {piece.prompt_tokens for piece in pieces} == {5}


def test_an_answer_that_is_alone_waits_for_nothing() -> None:
    assert interval_s(1) == 0


@given(st.integers(2, 64))
def test_several_answers_together_are_no_more_pieces_than_one_fast_one(answers: int) -> None:
    assert answers / interval_s(answers) <= PIECES_PER_S or interval_s(answers) == LONGEST_S
    assert 0 < interval_s(answers) <= LONGEST_S
