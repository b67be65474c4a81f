"""llama.cpp's samplers, held to the contract of sampling."""

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np
import pytest
from hypothesis import example, given

from providers.llama_sampler import LlamaSampler
from providers.runtime import Sampling
from tests.sampling import EVERYTHING, HELD, VOCABULARY, WORDS, expected, logits_of, reckoned, samplings, tokens_of


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


@given(sampling=samplings, prompt=tokens_of, answer=tokens_of, logits=logits_of)
@example(EVERYTHING, [1, 2, 3, 3], [3, 7, 7], np.linspace(-4, 4, VOCABULARY, dtype=np.float32))
def test_the_draw_is_made_from_what_the_contract_leaves(
    sampling: Sampling, prompt: list[int], answer: list[int], logits: Any
) -> None:
    shares = of_llama(sampling, prompt, answer, logits)
    assert shares == pytest.approx(expected(sampling, prompt, answer, logits), abs=1e-4)


def greedy(logits: list[float], **parameters: Any) -> int:
    sampler = LlamaSampler(Sampling(**parameters), [1], vocabulary=len(logits), context=64)
    try:
        entries = (llama.llama_token_data * len(logits))(
            *(llama.llama_token_data(token, logit, 0.0) for token, logit in enumerate(logits))
        )
        left = llama.llama_token_data_array(entries, len(logits), -1, False)
        llama.llama_sampler_apply(sampler._chain, ctypes.byref(left))
        return int(left.data[left.selected].id)
    finally:
        sampler.close()


@pytest.mark.parametrize("temperature", [0, 1e-9])
def test_greedy_takes_the_likeliest_after_bias_and_penalties(temperature: float) -> None:
    logits = [1.0, 3.0, 2.0]
    assert greedy(logits, temperature=temperature) == 1
    assert greedy(logits, temperature=temperature, logit_bias={0: 5.0}) == 0
    assert greedy(logits, temperature=temperature, repetition_penalty=2.0) == 2, "the prompt's tokens count"
    assert greedy(logits, temperature=temperature, presence_penalty=2.0) == 1, "only the answer's tokens count"


class Computed:
    """A llama_context with logits."""

    def __init__(self, logits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.logits = logits.copy()
        monkeypatch.setattr(llama, "llama_get_logits_ith", lambda context, index: _pointer(context.logits))
        monkeypatch.setattr(llama, "llama_sampler_sample", self._sample)

    @staticmethod
    def _sample(chain: Any, context: "Computed", index: int) -> int:
        """As llama.cpp does it: the tokens with their logits through the chain, and the one that is picked accepted."""
        entries = (llama.llama_token_data * VOCABULARY)(
            *(llama.llama_token_data(token, float(logit), 0.0) for token, logit in enumerate(context.logits))
        )
        left = llama.llama_token_data_array(entries, VOCABULARY, -1, False)
        llama.llama_sampler_apply(chain, ctypes.byref(left))
        token = int(left.data[left.selected].id)
        llama.llama_sampler_accept(chain, token)
        return token


def _pointer(logits: Any) -> Any:
    return logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


@given(sampling=samplings, logits=logits_of)
def test_a_grammar_leaves_what_it_allows_whatever_the_sampling(sampling: Sampling, logits: Any) -> None:
    sampler = LlamaSampler(replace(sampling, grammar=HELD, seed=1), [1], vocabulary=VOCABULARY, context=64, words=WORDS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        picked = [sampler.pick(Computed(logits, monkeypatch)) for _ in range(4)]
    sampler.close()
    assert set(picked[:3]) <= {0, 1, 2}
    assert picked[3] == VOCABULARY - 1


@given(logits=logits_of)
def test_logprobs_are_the_models_own_whatever_the_sampling(logits: Any) -> None:
    sampling = Sampling(temperature=0.2, logit_bias={3: 50.0}, logprobs=4, grammar="start: /[b-d]/")
    sampler = LlamaSampler(sampling, [1], vocabulary=VOCABULARY, context=64, words=WORDS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        token = sampler.pick(Computed(logits, monkeypatch))
    sampler.close()
    assert sampler.logprob is not None
    assert sampler.logprob.bytes == WORDS.tokens[token]
    assert sampler.logprob.logprob == pytest.approx(reckoned(logits)[token], abs=1e-4)
    assert [likely for _, _, likely in sampler.logprob.top] == pytest.approx(
        sorted(reckoned(logits), reverse=True)[:4], abs=1e-4
    )
