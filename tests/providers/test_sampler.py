"""One contract for sampling, held against numpy for both samplers."""

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from llmux.errors import InvalidRequest
from providers.llama_sampler import LlamaSampler
from providers.runtime import Sampling
from providers.sampler import check_bias, filled
from providers.torch_sampler import TorchSampler

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


def of_torch(sampling: Sampling, prompt: Sequence[int], answer: Sequence[int], logits: Any) -> dict[int, float]:
    sampler = TorchSampler(sampling, prompt, vocabulary=VOCABULARY, device="cpu")
    for token in answer:
        sampler._accept(token)
    shares, ids = sampler.shares(torch.from_numpy(logits))
    return {int(token): float(share) for token, share in zip(ids, shares, strict=True) if share > 0}


def of_llama(sampling: Sampling, prompt: Sequence[int], answer: Sequence[int], logits: Any) -> dict[int, float]:
    sampler = LlamaSampler(sampling, prompt, vocabulary=VOCABULARY, context=64)
    try:
        for token in answer:
            llama.llama_sampler_accept(sampler._chain, token)
        entries = (llama.llama_token_data * VOCABULARY)(
            *(llama.llama_token_data(token, float(logit), 0.0) for token, logit in enumerate(logits))
        )
        left = llama.llama_token_data_array(entries, VOCABULARY, -1, False)
        llama.llama_sampler_apply(sampler._chain, ctypes.byref(left))
        return {left.data[index].id: left.data[index].p for index in range(left.size)}
    finally:
        sampler.close()


@pytest.mark.parametrize("sampler", [of_torch, of_llama])
@given(sampling=samplings, prompt=tokens_of, answer=tokens_of, logits=logits_of)
@example(EVERYTHING, [1, 2, 3, 3], [3, 7, 7], np.linspace(-4, 4, VOCABULARY, dtype=np.float32))
def test_the_draw_is_made_from_what_the_contract_leaves(
    sampler: Any, sampling: Sampling, prompt: list[int], answer: list[int], logits: Any
) -> None:
    shares, wanted = sampler(sampling, prompt, answer, logits), expected(sampling, prompt, answer, logits)
    assert shares == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("temperature", [0, 1e-9])
def test_greedy_takes_the_likeliest_after_bias_and_penalties(temperature: float) -> None:
    logits = torch.tensor([1.0, 3.0, 2.0])
    plain = TorchSampler(Sampling(temperature=temperature), [1], vocabulary=3, device="cpu")
    biased = TorchSampler(Sampling(temperature=temperature, logit_bias={0: 5.0}), [1], vocabulary=3, device="cpu")
    penalised = TorchSampler(Sampling(temperature=temperature, repetition_penalty=2.0), [1], vocabulary=3, device="cpu")
    absent = TorchSampler(Sampling(temperature=temperature, presence_penalty=2.0), [1], vocabulary=3, device="cpu")

    assert [plain.pick(logits) for _ in range(2)] == [1, 1]
    assert biased.pick(logits) == 0
    assert penalised.pick(logits) == 2, "the prompt's tokens count"
    assert [absent.pick(logits) for _ in range(2)] == [1, 2], "only the answer's tokens count"


def test_a_seed_draws_the_same_tokens_and_another_one_others() -> None:
    def drawn(seed: int | None) -> list[int]:
        sampler = TorchSampler(Sampling(temperature=1, seed=seed), [], vocabulary=1000, device="cpu")
        return [sampler.pick(torch.zeros(1000)) for _ in range(8)]

    assert drawn(-7) == drawn(-7)
    assert len({tuple(drawn(seed)) for seed in (1, 2, 2**70, None, None)}) == 5


def test_what_a_request_leaves_open_is_the_models_own() -> None:
    defaults = Sampling(temperature=0.6, top_k=20, top_p=0.95)
    assert filled(Sampling(temperature=0, top_k=0, seed=3), defaults) == Sampling(
        temperature=0, top_k=0, top_p=0.95, seed=3
    )


@pytest.mark.parametrize("token", [-1, 10])
def test_a_bias_on_a_token_that_there_is_not_is_refused(token: int) -> None:
    with pytest.raises(InvalidRequest, match=f"names token {token}; the model has 0 to 9"):
        check_bias(Sampling(logit_bias={1: 1.0, token: 1.0}), 10)
