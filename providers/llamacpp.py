"""GGUF models through llama.cpp, with a projector where they see images; many sequences at a time.

Built on llama.cpp's own C API (model, context, batch with sequence ids, sampler chain) rather than on
llama-cpp-python's `Llama`, which is one conversation and cannot be stopped within a prompt. Everything native happens
on the worker's thread. Here a model is loaded; `llama_engine` computes.
"""

import os
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama

from llmux.config import Model
from llmux.errors import LoadFailed, WeightsMissing
from providers import llama_log
from providers.context import Request, fitting_context
from providers.engine import EngineLoop
from providers.llama_engine import BATCH, LlamaEngine, LlamaSequence
from providers.llama_memory import LlamaMemory
from providers.llama_sampler import defaults_of
from providers.llama_threads import LlamaThreads
from providers.llama_vocabulary import LlamaVocabulary
from providers.projector import Projector, image_token
from providers.runtime import Image, Piece, Sampling
from providers.worker import Cancelled, Worker
from vram.prediction import KEPT_STATES

_KEPT_SEQUENCES = 16
"""Sequences that are over and may stay, beside those that are computed: their cells are there anyway. Where each has a
recurrent state of its own, too, there are fewer (vram.prediction).
"""

_PAGE = 256
"""llama.cpp rounds its cells up to these."""


async def load(model: Model, folder: Path) -> "LlamaCpp":
    """The model in `folder`, all of its layers on the GPU where llama.cpp was built for one.

    Raises WeightsMissing where a file is not there and LoadFailed where it cannot be used.
    """
    assert model.file is not None
    runtime = LlamaCpp(model.file)
    projector = None if model.projector is None else folder / model.projector
    try:
        await runtime.open(
            folder / model.file,
            projector,
            context=model.context,
            slots=model.max_concurrency,
            kept_bytes=model.prefix_cache,
        )
    except BaseException:
        await runtime.close()
        raise
    return runtime


class LlamaCpp:
    """A ChatRuntime. Parameters that a request leaves open come from the GGUF, else they are llama.cpp's own:
    temperature 0.8, top_k 40, top_p 0.95, min_p 0.05.
    """

    chat_template: str
    special_tokens: Mapping[str, str]
    control_tokens: Collection[str]
    image_token: str | None = None
    context: int

    def __init__(self, name: str) -> None:
        self._name = name
        self._worker = Worker(Path(name).stem)
        self._model: Any = None
        self._context: Any = None
        self._threads: LlamaThreads | None = None
        self._engine: LlamaEngine | None = None
        self._loop: EngineLoop[Request, LlamaSequence]
        self._projector: Projector | None = None

    async def open(self, path: Path, projector: Path | None, *, context: int, slots: int, kept_bytes: int) -> None:
        """Load the weights; `close` is due even when this fails.

        context: tokens of prompt and answer; slots: answers at one time
        kept_bytes: most RAM for states of recurrent layers, kept for prompts that begin alike
        """
        await self._worker.run(partial(self._open, path, projector, context, slots, kept_bytes))

    def generate(self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()) -> AsyncGenerator[Piece, None]:
        return self._loop.stream(Request(prompt, sampling, images))

    async def close(self) -> None:
        try:
            await self._worker.run(self._free)
        finally:
            await self._worker.close()

    def _open(
        self, path: Path, projector: Path | None, context: int, slots: int, kept_bytes: int, cancelled: Cancelled
    ) -> None:
        _start_backend()
        _check_magic(path)
        if projector is not None:
            _check_magic(projector)
        self._model = self._load_weights(path, cancelled)
        self._vocabulary = LlamaVocabulary(self._model)
        if (
            llama.llama_model_has_encoder(self._model)
            or not llama.llama_model_has_decoder(self._model)
            or not self._vocabulary.is_there
        ):
            raise LoadFailed(f"{self._name} is not a language model that answers chats")
        template = llama.llama_model_chat_template(self._model, None)
        if not template:
            raise LoadFailed(f"{self._name} has no chat template: tokenizer.chat_template is missing in the GGUF")
        self.chat_template = template.decode(errors="replace")
        self.special_tokens = self._vocabulary.special_tokens
        self.control_tokens = self._vocabulary.control_tokens
        self.context = fitting_context(self._name, context, llama.llama_model_n_ctx_train(self._model))
        if projector is not None:
            self._open_projector(projector)
        recurrent = bool(llama.llama_model_is_recurrent(self._model) or llama.llama_model_is_hybrid(self._model))
        sequences = slots + (KEPT_STATES if recurrent else _KEPT_SEQUENCES)
        cells = -(-self.context // _PAGE) * _PAGE * slots
        self._context = self._create_context(cells, sequences)
        self._threads = LlamaThreads(self._context)
        self._engine = LlamaEngine(
            self._context,
            LlamaMemory(self._context, sequences=sequences, cells=cells, recurrent=recurrent, kept_bytes=kept_bytes),
            self._vocabulary,
            self._projector,
            marker=None if self.image_token is None else self._vocabulary.token(self.image_token),
            defaults=defaults_of(self._model),
            tokens=self.context,
            slots=slots,
            recurrent=recurrent,
        )
        self._loop = EngineLoop(self._engine, self._worker, slots=slots)

    def _open_projector(self, path: Path) -> None:
        self._projector = Projector(path, self._model)
        if self._projector.sees:
            self.image_token = image_token(self.chat_template, self._vocabulary)
            if self.image_token is None:
                raise LoadFailed(f"{path.name} is of no use to {self._name}: its chat template names no image")

    def _load_weights(self, path: Path, cancelled: Cancelled) -> Any:
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = -1
        parameters.load_mode = llama.LLAMA_LOAD_MODE_MMAP
        # Repacked weights would be copied out of the mapping.
        parameters.use_extra_bufts = False
        goes_on = llama.llama_progress_callback(lambda progress, data: not cancelled.is_set())
        parameters.progress_callback = goes_on
        model = llama.llama_model_load_from_file(os.fsencode(path), parameters)
        if not model:
            raise LoadFailed(
                f"llama.cpp cannot load {self._name}: it is incomplete or damaged, its architecture is not known, or "
                "the memory does not suffice; the log at level debug says which"
            ) from llama_log.shortage()
        return model

    def _create_context(self, cells: int, sequences: int) -> Any:
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = cells
        parameters.kv_unified = True
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_seq_max = parameters.n_outputs_max = sequences
        parameters.n_threads = parameters.n_threads_batch = len(os.sched_getaffinity(0))
        context = llama.llama_init_from_model(self._model, parameters)
        if not context:
            raise LoadFailed(
                f"llama.cpp cannot give {self._name} {cells} tokens of context; the log at level debug says why"
            ) from llama_log.shortage()
        return context

    def _free(self, _: Cancelled) -> None:
        if self._projector is not None:
            self._projector.close()
        if self._engine is not None:
            self._engine.close()
        if self._context is not None:
            llama.llama_free(self._context)
        if self._threads is not None:
            self._threads.close()
        if self._model is not None:
            llama.llama_model_free(self._model)
        self._projector = self._engine = self._context = self._threads = self._model = None


@cache
def _start_backend() -> None:
    llama_log.listen()
    llama.llama_backend_init()


def _check_magic(path: Path) -> None:
    name = path.name
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise WeightsMissing(f"{name} is missing in the folder of this model's weights") from None
    except OSError as error:
        raise LoadFailed(f"{name} cannot be read ({type(error).__name__})") from None
    if magic != b"GGUF":
        raise LoadFailed(f"{name} is not a GGUF file")
