"""GGUF models through llama.cpp, with a projector where they see images; one sequence at a time.

Built on llama.cpp's own C API (model, context, batch with sequence ids, sampler chain) rather than on
llama-cpp-python's `Llama`, which is one conversation and cannot be stopped within a prompt. Everything native happens
on the worker's thread.
"""

import codecs
import logging
import os
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama

from llmux.config import Model
from llmux.errors import ContextLengthExceeded, InvalidRequest, LlmuxError, LoadFailed, WeightsMissing
from providers import llama_log
from providers.constraint import Vocabulary
from providers.llama_sampler import LlamaSampler, defaults_of
from providers.llama_vocabulary import LlamaVocabulary
from providers.pace import paced
from providers.projector import Picture, Projector, image_token
from providers.runtime import Image, Piece, Sampling, TokenLogprob
from providers.sampler import check_bias, filled
from providers.worker import Cancelled, Worker

_logger = logging.getLogger(__name__)

_BATCH = 256
"""Prompt tokens computed in one step: a prompt is cancelled between two of them, and more gain little speed."""

_SEQUENCE = 0


async def load(model: Model, folder: Path) -> "LlamaCpp":
    """The model in `folder`, all of its layers on the GPU where llama.cpp was built for one.

    Raises WeightsMissing where a file is not there and LoadFailed where it cannot be used.
    """
    assert model.file is not None
    runtime = LlamaCpp(model.file)
    projector = None if model.projector is None else folder / model.projector
    try:
        await runtime.open(folder / model.file, projector, model.context)
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
        self._batch: Any = None
        self._projector: Projector | None = None

    async def open(self, path: Path, projector: Path | None, context: int) -> None:
        """Load the weights; `close` is due even when this fails."""
        await self._worker.run(partial(self._open, path, projector, context))

    def generate(self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()) -> AsyncGenerator[Piece, None]:
        return self._worker.stream(lambda cancelled: paced(self._generate(prompt, sampling, images, cancelled)))

    async def close(self) -> None:
        try:
            await self._worker.run(self._free)
        finally:
            await self._worker.close()

    def _open(self, path: Path, projector: Path | None, context: int, cancelled: Cancelled) -> None:
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
        self.context = self._fitting_context(context)
        self._context = self._create_context()
        self._memory = llama.llama_get_memory(self._context)
        self._batch = llama.llama_batch_init(_BATCH, 0, 1)
        self._defaults = defaults_of(self._model)
        if projector is not None:
            self._open_projector(projector)

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
        # Repacked weights would be copied out of the mapping, and ggml's AMX kernels crash as GCC 12 compiles them.
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

    def _create_context(self) -> Any:
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = self.context
        parameters.n_batch = parameters.n_ubatch = _BATCH
        parameters.n_seq_max = 1
        parameters.n_threads = parameters.n_threads_batch = len(os.sched_getaffinity(0))
        context = llama.llama_init_from_model(self._model, parameters)
        if not context:
            raise LoadFailed(
                f"llama.cpp cannot give {self._name} {self.context} tokens of context; the log at level debug says why"
            ) from llama_log.shortage()
        return context

    def _fitting_context(self, wanted: int) -> int:
        trained: int = llama.llama_model_n_ctx_train(self._model)
        if wanted > trained:
            _logger.info("%s: context %d instead of %d: it was trained with no more", self._name, trained, wanted)
        return min(wanted, trained)

    def _generate(
        self, prompt: str, sampling: Sampling, images: Sequence[Image], cancelled: Cancelled
    ) -> Iterator[Piece]:
        sampling = filled(sampling, self._defaults)
        check_bias(sampling, self._vocabulary.size)
        with ExitStack() as pictures:
            parts = self._parts(prompt, images, pictures)
            length = sum(part.tokens if isinstance(part, Picture) else len(part) for part in parts)
            if length == 0:
                raise InvalidRequest("the prompt is empty", param="messages")
            if length >= self.context:
                raise ContextLengthExceeded(
                    f"the prompt has {length} tokens; the model's context holds {self.context}, answer included",
                    param="messages",
                )
            room = self.context - length
            most = room if sampling.max_tokens is None else min(sampling.max_tokens, room)
            position = self._prefill(parts, cancelled)
        if position is None:
            return
        written = [token for part in parts if not isinstance(part, Picture) for token in part]
        words = self._words if sampling.grammar or sampling.logprobs is not None else None
        sampler = LlamaSampler(sampling, written, vocabulary=self._vocabulary.size, context=self.context, words=words)
        try:
            yield from self._continue(length, position, most, sampler, cancelled)
        finally:
            sampler.close()

    def _parts(self, prompt: str, images: Sequence[Image], pictures: ExitStack) -> list[list[int] | Picture]:
        """The prompt's tokens, cut where images stand. pictures: closes what was opened for them."""
        tokens = self._vocabulary.tokenize(prompt)
        if self._projector is None or not images:
            return [tokens]
        marker = self._vocabulary.token(self.image_token or "")
        if marker is None or tokens.count(marker) != len(images):
            raise InvalidRequest("the model's chat template does not name each image once", param="messages")
        parts: list[list[int] | Picture] = []
        for image in images:
            end = tokens.index(marker)
            before, tokens = tokens[:end], tokens[end + 1 :]
            picture = pictures.enter_context(self._projector.picture(image))
            # What a model wants around an image, some templates write, and others leave to the library.
            if before[-len(picture.before) :] != picture.before:
                before += picture.before
            if tokens[: len(picture.after)] != picture.after:
                tokens = picture.after + tokens
            parts += [before, picture]
        return [*parts, tokens]

    def _prefill(self, parts: Sequence[list[int] | Picture], cancelled: Cancelled) -> int | None:
        """Compute the prompt, with nothing before it. The position that follows; None when it was cancelled."""
        llama.llama_memory_seq_rm(self._memory, _SEQUENCE, -1, -1)
        position = 0
        for part in parts:
            if cancelled.is_set():
                return None
            if isinstance(part, Picture):
                assert self._projector is not None
                position = self._projector.compute(
                    part, self._context, position=position, sequence=_SEQUENCE, batch=_BATCH
                )
                continue
            for start in range(0, len(part), _BATCH):
                if cancelled.is_set():
                    return None
                tokens = part[start : start + _BATCH]
                self._decode(tokens, position)
                position += len(tokens)
        return position

    def _continue(
        self, prompt_tokens: int, position: int, most: int, sampler: LlamaSampler, cancelled: Cancelled
    ) -> Iterator[Piece]:
        characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        held = 0
        logprobs: list[TokenLogprob] = []
        for left in range(most - 1, -1, -1):
            if cancelled.is_set():
                return
            token = sampler.pick(self._context)
            held += 1
            logprobs += [sampler.logprob] if sampler.logprob else []
            if self._vocabulary.ends(token):
                yield Piece("", held, prompt_tokens, "stop", logprobs)
                return
            text = characters.decode(self._vocabulary.bytes_of(token))
            if left == 0:
                yield Piece(text, held, prompt_tokens, "length", logprobs)
                return
            if text:
                yield Piece(text, held, prompt_tokens, logprobs=logprobs)
                held, logprobs = 0, []
            self._decode([token], position)
            position += 1

    @cached_property
    def _words(self) -> Vocabulary:
        return self._vocabulary.words()

    def _decode(self, tokens: Sequence[int], position: int) -> None:
        """Compute these tokens, the first of which stands at `position`; logits are kept for the last."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = position + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = _SEQUENCE
            batch.logits[index] = index == len(tokens) - 1
        status = llama.llama_decode(self._context, batch)
        if status != 0:
            _logger.error("%s: llama_decode returned %d at position %d", self._name, status, position)
            raise LlmuxError("the model failed while it computed this answer") from llama_log.shortage()

    def _free(self, _: Cancelled) -> None:
        if self._projector is not None:
            self._projector.close()
        if self._batch is not None:
            llama.llama_batch_free(self._batch)
        if self._context is not None:
            llama.llama_free(self._context)
        if self._model is not None:
            llama.llama_model_free(self._model)
        self._projector = self._batch = self._context = self._model = None


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
