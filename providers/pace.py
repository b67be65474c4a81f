"""How often text is sent: as smoothly as one can read it, and no oftener.

Each piece costs the event loop about a millisecond (LiteLLM's streaming; docs/measurements.md), and on a machine with
no cores to spare the model waits for it. So what a fast model writes within a moment goes as one piece.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from providers.runtime import Piece, TokenLogprob

INTERVAL_S = 0.04
"""Between two pieces, at least: 25 a second, as in a film."""


def paced(pieces: Iterable[Piece], now: Callable[[], float] = time.monotonic) -> Iterator[Piece]:
    """The same text and tokens: the first piece at once, the others joined until `INTERVAL_S` after the one before."""
    text, tokens, sent_s = "", 0, float("-inf")
    logprobs: list[TokenLogprob] = []
    for piece in pieces:
        text, tokens = text + piece.text, tokens + piece.tokens
        logprobs += piece.logprobs
        if piece.finish_reason is not None or now() - sent_s >= INTERVAL_S:
            yield replace(piece, text=text, tokens=tokens, logprobs=tuple(logprobs))
            text, tokens, sent_s = "", 0, now()
            logprobs.clear()
