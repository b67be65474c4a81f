"""The sampler of `providers.sampler` over torch logits, made of transformers' own processors where it has them."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from providers.constraint import Vocabulary
from providers.runtime import Sampling, TokenLogprob
from providers.sampler import GREEDY, drawn_seed


class TorchSampler:
    """Picks the tokens of one sequence.

    sampling: every parameter but the seed and logit_bias is set
    prompt: its tokens, which repetition_penalty looks at
    vocabulary: how many tokens there are
    words: what they stand for, where the sampling has a grammar or wants logprobs
    logprob: that of the token picked last, where it was asked for
    """

    logprob: TokenLogprob | None = None

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int],
        *,
        vocabulary: int,
        device: str,
        words: Vocabulary | None = None,
    ) -> None:
        self._temperature = sampling.temperature or 0.0
        self._top_k = sampling.top_k or 0
        self._penalties = _penalties(sampling, len(prompt), vocabulary, device)
        self._warpers = _warpers(sampling) if self._temperature >= GREEDY else []
        self._random = torch.Generator(device=device)
        self._random.manual_seed(drawn_seed(sampling) % 2**63)
        self._tokens = torch.tensor([prompt], dtype=torch.long, device=device) if self._penalties else None
        self._words = words
        self._matcher = words.matcher(sampling.grammar) if words and sampling.grammar else None
        self._top = sampling.logprobs

    @torch.inference_mode()
    def pick(self, logits: torch.Tensor) -> int:
        """logits: shape (vocabulary,)."""
        if self._temperature < GREEDY:
            token = int(self._penalized(logits).argmax())
        else:
            shares, ids = self.shares(logits)
            token = int(ids[torch.multinomial(shares, 1, generator=self._random)])
        if self._words and self._top is not None:
            self.logprob = _described(self._words, logits, token, self._top)
        return self._accept(token)

    @torch.inference_mode()
    def shares(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the draw is made from: the chance of each token that is left, and its id, both of shape (left,)."""
        scores = self._penalized(logits)
        kept = min(self._top_k, scores.shape[-1]) or scores.shape[-1]
        # Only the likeliest go through the other steps: these would sort a vocabulary of 250,000 for each token.
        scores, ids = scores.topk(kept)
        for warper in self._warpers:
            scores = warper(None, scores)
        return torch.softmax(scores[0], dim=-1), ids[0]

    def _penalized(self, logits: torch.Tensor) -> torch.Tensor:
        """Shape (1, vocabulary), in float32. What the grammar forbids is minus infinity, and stays so."""
        scores = logits.float()[None]
        if self._matcher is not None:
            allowed = torch.from_numpy(self._matcher.allowed())
            scores = scores.masked_fill(~allowed.to(scores.device), float("-inf"))
        for penalty in self._penalties:
            scores = penalty(self._tokens, scores)
        return scores

    def _accept(self, token: int) -> int:
        if self._matcher is not None:
            self._matcher.accept(token)
        if self._tokens is not None:
            self._tokens = torch.cat([self._tokens, self._tokens.new_tensor([[token]])], dim=1)
        return token


def _described(words: Vocabulary, logits: torch.Tensor, token: int, top: int) -> TokenLogprob:
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    likely, ids = logprobs.topk(top)
    return words.described(token, float(logprobs[token]), list(zip(ids.tolist(), likely.tolist(), strict=True)))


def _penalties(sampling: Sampling, prompt_length: int, vocabulary: int, device: str) -> list[LogitsProcessor]:
    penalties: list[Any] = []
    if sampling.logit_bias:
        penalties.append(_Bias(sampling.logit_bias, vocabulary, device))
    if sampling.repetition_penalty not in (None, 1):
        penalties.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if sampling.frequency_penalty or sampling.presence_penalty:
        penalties.append(
            _AnswerPenalty(sampling.frequency_penalty or 0.0, sampling.presence_penalty or 0.0, prompt_length)
        )
    return penalties


def _warpers(sampling: Sampling) -> list[LogitsProcessor]:
    warpers: list[Any] = []
    if sampling.temperature not in (None, 1):
        warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_p is not None and sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers


class _Bias(LogitsProcessor):
    """transformers' own takes sequences of tokens, and looks at each of them at every step."""

    def __init__(self, bias: Any, vocabulary: int, device: str) -> None:
        self._bias = torch.zeros(1, vocabulary, device=device)
        self._bias[0, list(bias)] = torch.tensor(list(bias.values()), dtype=torch.float32, device=device)

    def __call__(self, input_ids: Any, scores: torch.Tensor) -> torch.Tensor:
        return scores + self._bias


class _AnswerPenalty(LogitsProcessor):
    """OpenAI's frequency and presence penalties, which transformers lacks."""

    def __init__(self, frequency: float, presence: float, prompt_length: int) -> None:
        self._frequency = frequency
        self._presence = presence
        self._prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        counts = torch.bincount(input_ids[0, self._prompt_length :], minlength=scores.shape[-1])
        return scores - counts * self._frequency - (counts > 0) * self._presence
