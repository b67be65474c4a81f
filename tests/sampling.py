"""What providers/sampler.py promises of sampling, reckoned with numpy, and requests to hold samplers to it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from providers.constraint import Vocabulary
from providers.runtime import Sampling

VOCABULARY = 24
EVERYTHING = Sampling(
    temperature=0.7,
    top_k=12,
    top_p=0.9,
    min_p=0.05,
    frequency_penalty=0.4,
    presence_penalty=0.3,
    repetition_penalty=1.3,
    logit_bias={3: 2.5, 5: -100.0},
)

WORDS = Vocabulary(
    [bytes([ord("a") + token]) for token in range(VOCABULARY - 1)] + [b"<end>"],
    control=[VOCABULARY - 1],
    ends=[VOCABULARY - 1],
    tokenize=lambda text: [ord(letter) - ord("a") for letter in text],
)
"""What the tokens stand for: letters, and the end."""

HELD = "start: /[a-c]{3}/"


def reckoned(logits: Any) -> Any:
    """The logprob of each token."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return np.log(powers / powers.sum())


NEAR = 1e-5
"""A share this close to a bound falls on either side of it by rounding."""

logits_of = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).normal(0, 3, VOCABULARY).astype(np.float32)
)
tokens_of = st.lists(st.integers(0, VOCABULARY - 1), max_size=12)
samplings = st.builds(
    Sampling,
    temperature=st.floats(0.05, 2),
    top_k=st.integers(0, VOCABULARY + 3),
    top_p=st.floats(0.05, 1),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 0.9)),
    frequency_penalty=st.floats(-2, 2),
    presence_penalty=st.floats(-2, 2),
    repetition_penalty=st.floats(0.5, 2),
    logit_bias=st.one_of(st.none(), st.dictionaries(st.integers(0, VOCABULARY - 1), st.floats(-100, 100), max_size=4)),
)


def expected(sampling: Sampling, prompt: Sequence[int], answer: Sequence[int], logits: Any) -> dict[int, float]:
    """The contract in providers/sampler.py, word for word. Shares by token."""
    scores = logits.astype(np.float64).copy()
    for token, bias in (sampling.logit_bias or {}).items():
        scores[token] += bias
    penalty = sampling.repetition_penalty or 1
    for token in {*prompt, *answer}:
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    for token in set(answer):
        scores[token] -= answer.count(token) * (sampling.frequency_penalty or 0) + (sampling.presence_penalty or 0)
    scores = scores / (sampling.temperature or 1)
    left = sorted(range(VOCABULARY), key=lambda token: -scores[token])[: sampling.top_k or None]

    def shares() -> Any:
        powers = np.exp(scores[left] - scores[left].max())
        return powers / powers.sum()

    before, top_p = np.cumsum(shares()) - shares(), sampling.top_p or 1
    assume(np.abs(before - top_p).min() > NEAR)
    left = [token for token, sum_before in zip(left, before, strict=True) if sum_before < top_p]
    least = (sampling.min_p or 0) * shares().max()
    assume(np.abs(shares() - least).min() > NEAR * shares().max())
    left = [token for token, share in zip(left, shares(), strict=True) if share >= least]
    return dict(zip(left, shares(), strict=True))
