"""Language models from a safetensors folder, through transformers, with Qwen3.5's eyes.

torch is imported with the first model, on the worker's thread, where everything of it happens.
"""

import gc
import logging
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmux.config import Model
from llmux.errors import LlmuxError, LoadFailed, WeightsMissing
from llmux.huge_pages import use_huge_pages
from providers.checkpoint import Checkpoint
from providers.construction import TURN
from providers.context import Request, fitting_context
from providers.engine import EngineLoop
from providers.runtime import Image, Piece, Sampling
from providers.sampler import filled
from providers.worker import Cancelled, Worker

if TYPE_CHECKING:
    from providers.torch_engine import TorchEngine, TorchSequence
    from providers.torch_vocabulary import TorchVocabulary

_logger = logging.getLogger(__name__)

_DEFAULTS = Sampling(temperature=1.0, top_k=50, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
"""transformers' own, where generation_config.json says nothing."""


async def load(model: Model, folder: Path) -> "TransformersChat":
    """The model in `folder`, on the GPU where there is one.

    Raises WeightsMissing where the folder is not there and LoadFailed where it cannot be used.
    """
    assert model.weights is not None
    runtime = TransformersChat(model.weights)
    try:
        await runtime.open(folder, model)
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
        self._device = "cpu"
        self._engine: TorchEngine | None = None
        self._loop: EngineLoop[Request, TorchSequence] | None = None

    async def open(self, folder: Path, model: Model) -> None:
        """Load the weights, those of the eyes only where the configuration wants them; `close` is due even when this
        fails.
        """
        engine = await self._worker.run(partial(self._open, folder, model))
        self._loop = EngineLoop(engine, self._worker, slots=model.max_concurrency)

    def generate(self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()) -> AsyncGenerator[Piece, None]:
        assert self._loop is not None
        return self._loop.stream(Request(prompt, sampling, images))

    async def close(self) -> None:
        try:
            await self._worker.run(self._free)
        finally:
            await self._worker.close()

    def _open(self, folder: Path, model: Model, _: Cancelled) -> "TorchEngine":
        if not folder.is_dir():
            raise WeightsMissing(f"{self._name} is missing in the folder of the models")
        try:
            self._engine = self._read(Checkpoint.read(self._name, folder), model)
        except LlmuxError:
            raise
        except Exception as error:  # tokenizer and weights each fail in ways of their own
            _logger.debug("%s cannot be loaded", self._name, exc_info=True)
            raise LoadFailed(f"transformers cannot load {self._name} ({type(error).__name__})") from None
        return self._engine

    def _read(self, checkpoint: Checkpoint, entry: Model) -> "TorchEngine":
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        from providers.packed import pack
        from providers.torch_vocabulary import TorchVocabulary

        transformers_logging.disable_progress_bar()  # a server's log is no terminal
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        checkpoint.check(self._device)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
        if not isinstance(tokenizer.chat_template, str):
            raise LoadFailed(f"{self._name} has no chat template")
        sees = checkpoint.sees and "vision" in entry.capabilities
        kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        with TURN:
            model = kind.from_pretrained(
                checkpoint.folder,
                config=checkpoint.settings(self._device),
                dtype=checkpoint.dtype(self._device),
                device_map={"": self._device},
                local_files_only=True,
                use_safetensors=True,
            ).eval()
        if self._device == "cpu":
            pack(model)
            use_huge_pages()
        ends = model.generation_config.eos_token_id
        vocabulary = TorchVocabulary(
            tokenizer, ends if isinstance(ends, list) else [ends], model.config.get_text_config().vocab_size
        )
        self.chat_template = tokenizer.chat_template
        self.special_tokens = vocabulary.special_tokens
        self.control_tokens = vocabulary.control_tokens
        trained = getattr(model.config.get_text_config(), "max_position_embeddings", None) or entry.context
        self.context = fitting_context(self._name, entry.context, trained)
        return self._engine_of(model, vocabulary, checkpoint, entry, sees)

    def _engine_of(
        self, model: Any, vocabulary: "TorchVocabulary", checkpoint: Checkpoint, entry: Model, sees: bool
    ) -> "TorchEngine":
        from providers.slots import UnknownLayer
        from providers.torch_engine import TorchEngine

        vision = None
        if sees:
            from providers.vision import Vision

            vision = Vision(checkpoint.folder, model, self._device)
            self.image_token = vocabulary.name_of(vision.token)
        own = model.generation_config
        defaults = filled(
            Sampling(
                temperature=own.temperature,
                top_k=own.top_k,
                top_p=own.top_p,
                min_p=own.min_p,
                repetition_penalty=own.repetition_penalty,
            ),
            _DEFAULTS,
        )
        try:
            return TorchEngine(
                model,
                vocabulary,
                vision,
                defaults,
                device=self._device,
                context=self.context,
                rows=entry.max_concurrency,
                kept_bytes=entry.prefix_cache,
            )
        except UnknownLayer as layer:
            raise LoadFailed(f"{self._name} has layers of a kind that is not known here: {layer}") from None

    def _free(self, _: Cancelled) -> None:
        engine, self._engine, self._loop = self._engine, None, None
        if engine is None:
            return
        engine.close()
        del engine
        gc.collect()
        if self._device == "cuda":
            import torch

            torch.cuda.empty_cache()
