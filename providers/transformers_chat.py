"""Language models from a safetensors folder, through transformers, with Qwen3.5's eyes; one sequence at a time.

torch is imported with the first model, on the worker's thread, where everything of it happens.
"""

import gc
import logging
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from llmux.config import Model
from llmux.errors import ContextLengthExceeded, InvalidRequest, LlmuxError, LoadFailed, WeightsMissing
from providers.checkpoint import Checkpoint
from providers.constraint import Vocabulary, vocabulary_of
from providers.construction import TURN
from providers.dialect import spans
from providers.pace import paced
from providers.runtime import Image, Piece, Sampling, TokenLogprob
from providers.sampler import check_bias, filled
from providers.worker import Cancelled, Worker

_logger = logging.getLogger(__name__)

_BATCH = 256
"""Prompt tokens computed in one step: a prompt is cancelled between two of them."""

_SCORES = 2**25
"""Attention scores that one step may compute at once, where a model writes all of them down (gpt-oss, because of its
sinks): in bfloat16, with the copies that it makes, a third of a GB.
"""

_DEFAULTS = Sampling(temperature=1.0, top_k=50, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
"""transformers' own, where generation_config.json says nothing."""


async def load(model: Model, folder: Path) -> "TransformersChat":
    """The model in `folder`, on the GPU where there is one.

    Raises WeightsMissing where the folder is not there and LoadFailed where it cannot be used.
    """
    assert model.weights is not None
    runtime = TransformersChat(model.weights)
    try:
        await runtime.open(folder, model.context, sees="vision" in model.capabilities)
    except BaseException:
        await runtime.close()
        raise
    return runtime


class TransformersChat:
    """A ChatRuntime. Parameters that a request leaves open come from the model's generation_config.json, else they
    are transformers' own: temperature 1, top_k 50, top_p 1.
    """

    chat_template: str
    special_tokens: Mapping[str, str]
    control_tokens: Collection[str]
    image_token: str | None = None
    context: int

    def __init__(self, name: str) -> None:
        self._name = name
        self._worker = Worker(Path(name).name)
        self._model: Any = None
        self._tokenizer: Any = None
        self._vision: Any = None

    async def open(self, folder: Path, context: int, *, sees: bool) -> None:
        """Load the weights, those of the eyes only if it `sees`; `close` is due even when this fails."""
        await self._worker.run(partial(self._open, folder, context, sees))

    def generate(self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()) -> AsyncGenerator[Piece, None]:
        return self._worker.stream(lambda cancelled: paced(self._generate(prompt, sampling, images, cancelled)))

    async def close(self) -> None:
        try:
            await self._worker.run(self._free)
        finally:
            await self._worker.close()

    def _open(self, folder: Path, context: int, sees: bool, _: Cancelled) -> None:
        if not folder.is_dir():
            raise WeightsMissing(f"{self._name} is missing in the folder of the models")
        try:
            self._read(Checkpoint.read(self._name, folder), sees)
        except LlmuxError:
            raise
        except Exception as error:  # tokenizer and weights each fail in ways of their own
            _logger.debug("%s cannot be loaded", self._name, exc_info=True)
            raise LoadFailed(f"transformers cannot load {self._name} ({type(error).__name__})") from None
        if not isinstance(self._tokenizer.chat_template, str):
            raise LoadFailed(f"{self._name} has no chat template")
        self.chat_template = self._tokenizer.chat_template
        self.special_tokens = {
            name: str(token) for name, token in self._tokenizer.special_tokens_map.items() if isinstance(token, str)
        }
        self.control_tokens = tuple(
            token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special
        )
        trained = getattr(self._text_config, "max_position_embeddings", None) or context
        if context > trained:
            _logger.info("%s: context %d instead of %d: it was trained with no more", self._name, trained, context)
        self.context = min(context, trained)

    def _read(self, checkpoint: Checkpoint, sees: bool) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # a server's log is no terminal
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        checkpoint.check(self._device)
        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
        kind = AutoModelForImageTextToText if sees and checkpoint.sees else AutoModelForCausalLM
        with TURN:
            self._model = kind.from_pretrained(
                checkpoint.folder,
                config=checkpoint.settings(self._device),
                dtype=checkpoint.dtype(self._device),
                device_map={"": self._device},
                local_files_only=True,
                use_safetensors=True,
            ).eval()
        self._text_config = self._model.config.get_text_config()
        if sees and checkpoint.sees:
            from providers.vision import Vision

            self._vision = Vision(checkpoint.folder, self._model, self._device)
            self.image_token = self._tokenizer.convert_ids_to_tokens(self._vision.token)
        own = self._model.generation_config
        self._defaults = filled(
            Sampling(
                temperature=own.temperature,
                top_k=own.top_k,
                top_p=own.top_p,
                min_p=own.min_p,
                repetition_penalty=own.repetition_penalty,
            ),
            _DEFAULTS,
        )
        ends = own.eos_token_id
        self._ends = {self._tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}

    def _generate(
        self, prompt: str, sampling: Sampling, images: Sequence[Image], cancelled: Cancelled
    ) -> Iterator[Piece]:
        from tokenizers.decoders import DecodeStream

        check_bias(sampling, self._text_config.vocab_size)
        written = self._tokenize(prompt)
        seen = self._vision.see(written, images) if self._vision is not None and images else None
        tokens = written if seen is None else seen.tokens
        if not tokens:
            raise InvalidRequest("the prompt is empty", param="messages")
        if len(tokens) >= self.context:
            raise ContextLengthExceeded(
                f"the prompt has {len(tokens)} tokens; the model's context holds {self.context}, answer included",
                param="messages",
            )
        room = self.context - len(tokens)
        most = room if sampling.max_tokens is None else min(sampling.max_tokens, room)
        characters = DecodeStream(skip_special_tokens=False)
        held = 0
        logprobs: list[TokenLogprob] = []
        picked = self._tokens(tokens, seen, sampling, cancelled)
        for number, (token, logprob) in enumerate(picked, start=1):
            held += 1
            logprobs += [logprob] if logprob else []
            if token in self._ends:
                yield Piece("", held, len(tokens), "stop", logprobs)
                return
            text = characters.step(self._tokenizer.backend_tokenizer, token) or ""
            if number == most:
                yield Piece(text, held, len(tokens), "length", logprobs)
                return
            if text:
                yield Piece(text, held, len(tokens), logprobs=logprobs)
                held, logprobs = 0, []

    @cached_property
    def _words(self) -> Vocabulary:
        return vocabulary_of(self._tokenizer, size=self._text_config.vocab_size, ends=self._ends)

    def _tokens(
        self, prompt: Sequence[int], seen: Any, sampling: Sampling, cancelled: Cancelled
    ) -> Iterator[tuple[int, TokenLogprob | None]]:
        """Tokens without end, until cancelled. seen: the prompt's images, if it has any."""
        from transformers import DynamicCache

        from providers.torch_sampler import TorchSampler

        cache = DynamicCache(config=self._model.config)
        sampler = TorchSampler(
            filled(sampling, self._defaults),
            prompt,
            vocabulary=self._text_config.vocab_size,
            device=self._device,
            words=self._words if sampling.grammar or sampling.logprobs is not None else None,
        )
        logits = self._prefill(prompt, seen, cache, cancelled)
        position = len(prompt)
        while logits is not None and not cancelled.is_set():
            token = sampler.pick(logits)
            yield token, sampler.logprob
            at = None if seen is None else seen.positions.new_full((3, 1, 1), position + seen.shift)
            logits = self._step(cache, input_ids=self._ids([token]), position_ids=at)
            position += 1

    def _prefill(self, prompt: Sequence[int], seen: Any, cache: Any, cancelled: Cancelled) -> Any:
        """Compute the prompt. The logits of its last token, or None when it was cancelled."""
        features = None if seen is None else self._vision.look(seen, cancelled)
        logits, start = None, 0
        while start < len(prompt):
            if cancelled.is_set():
                return None
            end = start + self._step_tokens(start)
            tokens = prompt[start:end]
            if seen is None:
                logits = self._step(cache, input_ids=self._ids(tokens))
            else:
                embeddings, features = self._vision.embed(tokens, features)
                logits = self._step(cache, inputs_embeds=embeddings, position_ids=seen.positions[..., start:end])
            start = end
        return logits

    def _step_tokens(self, position: int) -> int:
        """How many tokens of a prompt are computed in one step, after `position` others."""
        if self._text_config._attn_implementation != "eager":
            return _BATCH
        heads: int = self._text_config.num_attention_heads
        return max(1, min(_BATCH, _SCORES // (heads * (position + _BATCH))))

    def _step(self, cache: Any, **tokens: Any) -> Any:
        """Compute what follows the cache; the logits of the last token, shape (vocabulary,)."""
        import torch

        with torch.inference_mode():
            return self._model(past_key_values=cache, use_cache=True, logits_to_keep=1, **tokens).logits[0, -1]

    def _ids(self, tokens: Sequence[int]) -> Any:
        import torch

        return torch.tensor([tokens], device=self._device)

    def _tokenize(self, prompt: str) -> list[int]:
        return [
            token for span in spans(prompt) for token in self._tokenizer(span, add_special_tokens=False)["input_ids"]
        ]

    def _free(self, _: Cancelled) -> None:
        held = self._model is not None
        self._model = self._tokenizer = self._vision = None
        gc.collect()
        if held and self._device == "cuda":
            import torch

            torch.cuda.empty_cache()
