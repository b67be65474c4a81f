"""transformers' processors, held to the contract of sampling."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given

from providers.runtime import Sampling
from providers.torch_sampler import TorchSampler
from tests.sampling import EVERYTHING, HELD, VOCABULARY, WORDS, expected, logits_of, reckoned, samplings, tokens_of


def of_torch(sampling: Sampling, prompt: Sequence[int], answer: Sequence[int], logits: Any) -> dict[int, float]:
    sampler = TorchSampler(sampling, prompt, vocabulary=VOCABULARY, device="cpu")
    for token in answer:
        sampler._accept(token)
    shares, ids = sampler.shares(torch.from_numpy(logits))
    return {int(token): float(share) for token, share in zip(ids, shares, strict=True) if share > 0}


@given(sampling=samplings, prompt=tokens_of, answer=tokens_of, logits=logits_of)
@example(EVERYTHING, [1, 2, 3, 3], [3, 7, 7], np.linspace(-4, 4, VOCABULARY, dtype=np.float32))
def test_the_draw_is_made_from_what_the_contract_leaves(
    sampling: Sampling, prompt: list[int], answer: list[int], logits: Any
) -> None:
    shares = of_torch(sampling, prompt, answer, logits)
    assert shares == pytest.approx(expected(sampling, prompt, answer, logits), abs=1e-4)


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


@given(sampling=samplings, logits=logits_of)
def test_a_grammar_leaves_what_it_allows_whatever_the_sampling(sampling: Sampling, logits: Any) -> None:
    held = replace(sampling, grammar=HELD, seed=1)
    sampler = TorchSampler(held, [1], vocabulary=VOCABULARY, device="cpu", words=WORDS)
    picked = [sampler.pick(torch.from_numpy(logits)) for _ in range(4)]
    assert set(picked[:3]) <= {0, 1, 2}
    assert picked[3] == VOCABULARY - 1


@given(logits=logits_of)
def test_logprobs_are_the_models_own_whatever_the_sampling(logits: Any) -> None:
    sampling = Sampling(temperature=0.2, logit_bias={3: 50.0}, logprobs=4, grammar="start: /[b-d]/")
    sampler = TorchSampler(sampling, [1], vocabulary=VOCABULARY, device="cpu", words=WORDS)
    token = sampler.pick(torch.from_numpy(logits))
    assert sampler.logprob is not None
    assert sampler.logprob.bytes == WORDS.tokens[token]
    assert sampler.logprob.logprob == pytest.approx(reckoned(logits)[token], abs=1e-4)
    assert [likely for _, _, likely in sampler.logprob.top] == pytest.approx(
        sorted(reckoned(logits), reverse=True)[:4], abs=1e-4
    )
