"""How the next token is picked: one contract, kept by both chat runtimes.

In this order, which is that of transformers and vLLM: `logit_bias` is added; the logits of tokens in prompt and
answer are divided (if negative: multiplied) by `repetition_penalty`; `frequency_penalty` times how often the token
stands in the answer, and `presence_penalty` if it stands there at all, are taken off; logits are divided by
`temperature`; then only the `top_k` likeliest stay, of these the smallest set that holds `top_p`, and of these the
ones at least `min_p` times as likely as the likeliest. One of what is left is drawn by its share. At a temperature
below `GREEDY` the likeliest is taken instead.

A sequence that is alone draws the same tokens from the same seed each time.
"""

import secrets
from dataclasses import fields, replace

from llmux.errors import InvalidRequest
from providers.runtime import Sampling

GREEDY = 1e-5
"""Temperatures below would overflow what they divide (vLLM's bound)."""


def filled(sampling: Sampling, defaults: Sampling) -> Sampling:
    """The request's parameters, and the model's where it gives none."""
    given = {field.name: value for field in fields(sampling) if (value := getattr(sampling, field.name)) is not None}
    return replace(defaults, **given)


def check_bias(sampling: Sampling, vocabulary: int) -> None:
    """Raises InvalidRequest where logit_bias names a token that the model does not have."""
    for token in sampling.logit_bias or ():
        if not 0 <= token < vocabulary:
            raise InvalidRequest(
                f"logit_bias names token {token}; the model has 0 to {vocabulary - 1}", param="logit_bias"
            )


def drawn_seed(sampling: Sampling) -> int:
    """The request's seed, or one that differs each time; any whole number is a seed, also a negative one."""
    return secrets.randbits(63) if sampling.seed is None else sampling.seed


def reads_words(sampling: Sampling) -> bool:
    """Whether it takes to know what each token of the vocabulary stands for."""
    return sampling.grammar is not None or sampling.logprobs is not None
