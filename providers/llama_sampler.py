"""The sampler of `providers.sampler` as a chain of llama.cpp's own."""

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np
import numpy.typing as npt

from providers.constraint import Vocabulary
from providers.runtime import Sampling, TokenLogprob
from providers.sampler import GREEDY, drawn_seed, filled

_DEFAULTS = Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repetition_penalty=1.0)
"""llama.cpp's own, for a GGUF whose general.sampling.* says nothing."""


def defaults_of(model: Any) -> Sampling:
    """What this llama_model wants where a request says nothing."""
    top_k = _number(model, "top_k")
    own = Sampling(
        temperature=_number(model, "temp"),
        top_k=None if top_k is None else int(top_k),
        top_p=_number(model, "top_p"),
        min_p=_number(model, "min_p"),
        repetition_penalty=_number(model, "penalty_repeat"),
    )
    return filled(own, _DEFAULTS)


def _number(model: Any, name: str) -> float | None:
    value = ctypes.create_string_buffer(64)
    length = llama.llama_model_meta_val_str(model, f"general.sampling.{name}".encode(), value, len(value))
    return float(value.value) if length > 0 else None


class LlamaSampler:
    """Picks the tokens of one sequence; `close` is due.

    sampling: every parameter but the seed and logit_bias is set
    prompt: its tokens, which repetition_penalty looks at
    vocabulary: how many tokens there are
    context: most tokens of prompt and answer together
    words: what the tokens stand for, where the sampling has a grammar or wants logprobs
    logprob: that of the token picked last, where it was asked for
    """

    logprob: TokenLogprob | None = None

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int],
        *,
        vocabulary: int,
        context: int,
        words: Vocabulary | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._words = words
        self._matcher = words.matcher(sampling.grammar) if words and sampling.grammar else None
        self._top = sampling.logprobs
        self._likeliest = False
        self._chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        if sampling.logit_bias:
            entries = [llama.llama_logit_bias(token, bias) for token, bias in sampling.logit_bias.items()]
            biases = (llama.llama_logit_bias * len(entries))(*entries)
            self._add(llama.llama_sampler_init_logit_bias(vocabulary, len(entries), biases))
        if sampling.repetition_penalty not in (None, 1):
            repetition = self._add(
                llama.llama_sampler_init_penalties(vocabulary, context, sampling.repetition_penalty, 0.0, 0.0)
            )
            for token in prompt:
                llama.llama_sampler_accept(repetition, token)
        if sampling.frequency_penalty or sampling.presence_penalty:
            self._add(
                llama.llama_sampler_init_penalties(
                    vocabulary, context, 1.0, sampling.frequency_penalty or 0.0, sampling.presence_penalty or 0.0
                )
            )
        if sampling.temperature is None or sampling.temperature < GREEDY:
            self._likeliest = not llama.llama_sampler_chain_n(self._chain)
            self._add(llama.llama_sampler_init_greedy())
            return
        self._add(llama.llama_sampler_init_temp(sampling.temperature))
        if sampling.top_k:
            self._add(llama.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p is not None and sampling.top_p < 1:
            self._add(llama.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p:
            self._add(llama.llama_sampler_init_min_p(sampling.min_p, 1))
        # The largest seed means "random" to llama.cpp.
        self._add(llama.llama_sampler_init_dist(drawn_seed(sampling) % llama.LLAMA_DEFAULT_SEED))

    def _add(self, sampler: Any) -> Any:
        llama.llama_sampler_chain_add(self._chain, sampler)
        return sampler

    def pick(self, context: Any, index: int = -1) -> int:
        """The token that follows the one whose logits were kept at `index` in this llama_context."""
        logits = self._logits(context, index)
        raw = logits.copy() if self._top is not None else None
        if self._matcher is not None:
            logits[~self._matcher.allowed()] = -np.inf
        if self._likeliest:  # llama.cpp makes a list of all tokens first: 0.3 ms for 49,152 of them, this takes 0.01
            token = int(logits.argmax())
        else:
            token = int(llama.llama_sampler_sample(self._chain, context, index))
        if self._matcher is not None:
            self._matcher.accept(token)
        if raw is not None and self._words and self._top is not None:
            self.logprob = _described(self._words, raw, token, self._top)
        return token

    def _logits(self, context: Any, index: int) -> npt.NDArray[np.float32]:
        """llama.cpp's own, in place: what is written there, its samplers see."""
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, index), (self._vocabulary,))

    def close(self) -> None:
        llama.llama_sampler_free(self._chain)


def _described(words: Vocabulary, logits: npt.NDArray[np.float32], token: int, top: int) -> TokenLogprob:
    above = logits - logits.max()
    logprobs = above - np.log(np.exp(above).sum())
    likely = np.argpartition(logprobs, -top)[-top:] if top else np.empty(0, np.intp)
    order = likely[np.argsort(-logprobs[likely])]
    return words.described(token, float(logprobs[token]), [(int(other), float(logprobs[other])) for other in order])
