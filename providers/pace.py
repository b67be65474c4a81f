"""How often text is sent: as smoothly as one can read it, and no oftener where that costs others.

Each piece costs the event loop about a millisecond (LiteLLM's streaming; docs/measurements.md), and on a machine with
no cores to spare the models wait for it. An answer that is written alone is sent token by token. Where there are
several, what is written of one of them within a moment goes as one piece, and the moments are as long as it takes for
all of them to cost no more than one fast answer.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from providers.runtime import Piece

PIECES_PER_S = 64
"""Of all answers of a model together, where there are several."""

LONGEST_S = 0.2
"""Between two pieces of one answer, as far as that is for its sake."""


def interval_s(answers: int) -> float:
    """Between two pieces of one answer among so many, at least."""
    return 0.0 if answers <= 1 else min(answers / PIECES_PER_S, LONGEST_S)


class Pace:
    """Of one answer: its first piece and its last go at once, those in between as they may."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._held: Piece | None = None
        self._sent_s = float("-inf")

    def feed(self, piece: Piece, interval_s: float) -> Piece | None:
        """What is to be sent now: all that was written since this was not None, the same text and tokens.

        interval_s: between this piece and the one sent before, at least; 0: none is held back
        """
        if self._held is not None:
            piece = replace(
                piece,
                text=self._held.text + piece.text,
                tokens=self._held.tokens + piece.tokens,
                logprobs=(*self._held.logprobs, *piece.logprobs),
            )
        if piece.finish_reason is None and self._now() - self._sent_s < interval_s:
            self._held = piece
            return None
        self._held, self._sent_s = None, self._now()
        return piece
