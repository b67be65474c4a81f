"""What the next step computes: which sequences of a batch, and how many tokens of each.

A sequence that writes its answer takes part with one token in every step. What a step can take beside those goes to the
prompts: half of it to the one that came first, so that none waits for ever, and the rest to those with the least left
to compute, so that a short question is not held up by a long one. While answers are being written, a step is kept short
enough not to stall them.
"""

from collections.abc import Sequence

STALL_S = 0.1
"""What prompts may add to a step while others are listening to their answers, no more of them than there are prompts:
where more wait than listen, it is longer, because those who wait count as much.
"""

_LEAST = 16
"""Tokens of prompts in a step, however slow the machine: fewer would cost about as much."""


def shares(left: Sequence[int], budget: int) -> list[int]:
    """How many tokens of each sequence the next step computes.

    left: tokens of each prompt that are not computed yet, in the order of arrival; 0: it is writing its answer
    budget: tokens of prompts that the step may take, at least 1
    """
    taken = [0 if tokens else 1 for tokens in left]
    prompts = [index for index, tokens in enumerate(left) if tokens]
    if not prompts:
        return taken
    first = prompts[0]
    taken[first] = min(left[first], (budget + 1) // 2)
    rest = budget - taken[first]
    for index in sorted(prompts, key=lambda index: left[index] - taken[index]):
        more = min(left[index] - taken[index], rest)
        taken[index] += more
        rest -= more
    return taken


class Budget:
    """How many tokens of prompts fit into a step.

    most: what a step can take at all
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._tokens_per_s: float | None = None

    def tokens(self, *, answers: int, prompts: int) -> int:
        """answers, prompts: how many sequences are being written, and how many wait for the end of their prompt"""
        if not answers:
            return self._most
        stall_s = STALL_S * max(1.0, prompts / answers)
        fitting = 0 if self._tokens_per_s is None else int(self._tokens_per_s * stall_s)
        return min(max(fitting, _LEAST), self._most)

    def learn(self, tokens: int, seconds: float) -> None:
        """A step took so long that computed so many tokens of prompts. Later steps count more: a prompt becomes slower
        the further it gets.
        """
        if tokens < min(_LEAST, self._most):
            return  # of so short a step, most is the cost of any
        rate = tokens / max(seconds, 1e-6)
        self._tokens_per_s = rate if self._tokens_per_s is None else (self._tokens_per_s + rate) / 2
