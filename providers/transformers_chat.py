"""Plain causal language models from a safetensors folder, through transformers, one sequence at a time.

torch is imported with the first model, on the worker's thread, where everything of it happens.
"""

import gc
import logging
import secrets
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llmux.config import Model
from llmux.errors import ContextLengthExceeded, InvalidRequest, LoadFailed, WeightsMissing
from providers.dialect import spans
from providers.runtime import Image, Piece, Sampling
from providers.worker import Cancelled, Worker

_logger = logging.getLogger(__name__)

_BATCH = 256
"""Prompt tokens computed in one step: a prompt is cancelled between two of them."""


async def load(model: Model, folder: Path) -> "TransformersChat":
    """The model in `folder`, on the GPU where there is one.

    Raises WeightsMissing where the folder is not there and LoadFailed where it cannot be used.
    """
    assert model.weights is not None
    runtime = TransformersChat(model.weights)
    try:
        await runtime.open(folder, model.context)
    except BaseException:
        await runtime.close()
        raise
    return runtime


class TransformersChat:
    """A ChatRuntime. Parameters that a request leaves open come from the model's generation_config.json, else they
    are transformers' own: temperature 1, top_k 50, top_p 1, and a seed that differs each time.
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

    async def open(self, folder: Path, context: int) -> None:
        """Load the weights; `close` is due even when this fails."""
        await self._worker.run(partial(self._open, folder, context))

    def generate(self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()) -> AsyncGenerator[Piece, None]:
        return self._worker.stream(partial(self._generate, prompt, sampling))

    async def close(self) -> None:
        try:
            await self._worker.run(self._free)
        finally:
            await self._worker.close()

    def _open(self, folder: Path, context: int, _: Cancelled) -> None:
        if not folder.is_dir():
            raise WeightsMissing(f"{self._name} is missing in the folder of the models")
        try:
            self._read(folder)
        except Exception as error:  # configuration, tokenizer and weights each fail in ways of their own
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
        trained = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or context
        if context > trained:
            _logger.info("%s: context %d instead of %d: it was trained with no more", self._name, trained, context)
        self.context = min(context, trained)

    def _read(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # a server's log is no terminal
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", device_map={"": self._device}, local_files_only=True, use_safetensors=True
        ).eval()
        defaults = self._model.generation_config
        self._temperature = 1.0 if defaults.temperature is None else defaults.temperature
        self._top_k = 50 if defaults.top_k is None else defaults.top_k
        self._top_p = 1.0 if defaults.top_p is None else defaults.top_p
        ends = defaults.eos_token_id
        self._ends = {self._tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}

    def _generate(self, prompt: str, sampling: Sampling, cancelled: Cancelled) -> Iterator[Piece]:
        from tokenizers.decoders import DecodeStream

        tokens = self._tokenize(prompt)
        if not tokens:
            raise InvalidRequest("the prompt is empty", param="messages")
        if len(tokens) >= self.context:
            raise ContextLengthExceeded(
                f"the prompt has {len(tokens)} tokens; the model's context holds {self.context}, answer included",
                param="messages",
            )
        room = self.context - len(tokens)
        most = room if sampling.max_tokens is None else min(sampling.max_tokens, room)
        characters = DecodeStream(skip_special_tokens=True)
        held = 0
        for number, token in enumerate(self._tokens(tokens, sampling, cancelled), start=1):
            held += 1
            if token in self._ends:
                yield Piece("", held, len(tokens), "stop")
                return
            text = characters.step(self._tokenizer.backend_tokenizer, token) or ""
            if number == most:
                yield Piece(text, held, len(tokens), "length")
                return
            if text:
                yield Piece(text, held, len(tokens))
                held = 0

    def _tokens(self, prompt: Sequence[int], sampling: Sampling, cancelled: Cancelled) -> Iterator[int]:
        """Tokens without end, until cancelled."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self._model.config)
        sampler = _Sampler(
            temperature=self._temperature if sampling.temperature is None else sampling.temperature,
            top_k=self._top_k,
            top_p=self._top_p if sampling.top_p is None else sampling.top_p,
            seed=sampling.seed,
            device=self._device,
        )
        logits = None
        for start in range(0, len(prompt), _BATCH):
            if cancelled.is_set():
                return
            logits = self._step(prompt[start : start + _BATCH], cache)
        while not cancelled.is_set():
            token = sampler.pick(logits)
            yield token
            logits = self._step([token], cache)

    def _step(self, tokens: Sequence[int], cache: Any) -> Any:
        """Compute these tokens after those in the cache; the logits of the last, shape (vocabulary,)."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([tokens], device=self._device)
            return self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1]

    def _tokenize(self, prompt: str) -> list[int]:
        return [
            token for span in spans(prompt) for token in self._tokenizer(span, add_special_tokens=False)["input_ids"]
        ]

    def _free(self, _: Cancelled) -> None:
        held = self._model is not None
        self._model = self._tokenizer = None
        gc.collect()
        if held and self._device == "cuda":
            import torch

            torch.cuda.empty_cache()


class _Sampler:
    """Picks tokens by temperature, then the top_k likeliest, then the smallest set that holds top_p."""

    def __init__(self, *, temperature: float, top_k: int, top_p: float, seed: int | None, device: str) -> None:
        import torch

        self._temperature = temperature
        self._top_k = top_k
        self._top_p = top_p
        self._random = torch.Generator(device=device)
        self._random.manual_seed(secrets.randbits(63) if seed is None else seed % 2**63)

    def pick(self, logits: Any) -> int:
        import torch

        if self._temperature == 0:
            return int(logits.argmax())
        with torch.inference_mode():
            size = min(self._top_k, logits.numel()) if self._top_k > 0 else logits.numel()
            likeliest, ids = torch.topk(logits.float() / self._temperature, size)
            shares = torch.softmax(likeliest, dim=-1)
            shares[shares.cumsum(-1) - shares >= self._top_p] = 0
            return int(ids[torch.multinomial(shares, 1, generator=self._random)])
