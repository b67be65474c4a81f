"""GGUF models through llama.cpp, one sequence at a time.

Built on llama.cpp's own C API (model, context, batch with sequence ids, sampler chain) rather than on
llama-cpp-python's `Llama`, which is one conversation and cannot be stopped within a prompt. Everything native happens
on the worker's thread.
"""

import codecs
import ctypes
import logging
import os
import re
import secrets
import threading
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
from llama_cpp._ggml import libggml

from llmux.config import Model
from llmux.errors import ContextLengthExceeded, InvalidRequest, LlmuxError, LoadFailed, WeightsMissing
from providers.dialect import spans
from providers.fault import says_full
from providers.runtime import Image, Piece, Sampling
from providers.worker import THREAD_PREFIX, Cancelled, Worker

_logger = logging.getLogger(__name__)

_BATCH = 256
"""Prompt tokens computed in one step: a prompt is cancelled between two of them, and more gain little speed."""

_SEQUENCE = 0

_DEFAULT_TEMPERATURE, _DEFAULT_TOP_K, _DEFAULT_TOP_P = 0.8, 40, 0.95
"""llama.cpp's own, for a GGUF whose general.sampling.* says nothing."""


async def load(model: Model, folder: Path) -> "LlamaCpp":
    """The model in `folder`, all of its layers on the GPU where llama.cpp was built for one.

    Raises WeightsMissing where the file is not there and LoadFailed where it cannot be used.
    """
    assert model.file is not None
    runtime = LlamaCpp(model.file)
    try:
        await runtime.open(folder / model.file, model.context)
    except BaseException:
        await runtime.close()
        raise
    return runtime


class LlamaCpp:
    """A ChatRuntime. Parameters that a request leaves open come from the GGUF, else they are llama.cpp's own:
    temperature 0.8, top_k 40, top_p 0.95, and a seed that differs each time.

    control_tokens: the texts that steer the model where they stand for a token, such as <|im_end|>
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

    async def open(self, path: Path, context: int) -> None:
        """Load the weights; `close` is due even when this fails."""
        await self._worker.run(partial(self._open, path, context))

    def generate(self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()) -> AsyncGenerator[Piece, None]:
        return self._worker.stream(partial(self._generate, prompt, sampling))

    async def close(self) -> None:
        try:
            await self._worker.run(self._free)
        finally:
            await self._worker.close()

    def _open(self, path: Path, context: int, cancelled: Cancelled) -> None:
        _start_backend()
        _check_magic(path, self._name)
        self._model = self._load_weights(path, cancelled)
        self._vocab = llama.llama_model_get_vocab(self._model)
        if (
            llama.llama_model_has_encoder(self._model)
            or not llama.llama_model_has_decoder(self._model)
            or llama.llama_vocab_type(self._vocab) == llama.LLAMA_VOCAB_TYPE_NONE
        ):
            raise LoadFailed(f"{self._name} is not a language model that answers chats")
        template = llama.llama_model_chat_template(self._model, None)
        if not template:
            raise LoadFailed(f"{self._name} has no chat template: tokenizer.chat_template is missing in the GGUF")
        self.chat_template = template.decode(errors="replace")
        self.special_tokens = self._read_special_tokens()
        self.control_tokens = self._read_control_tokens()
        self.context = self._fitting_context(context)
        self._context = self._create_context()
        self._memory = llama.llama_get_memory(self._context)
        self._batch = llama.llama_batch_init(_BATCH, 0, 1)
        self._temperature = self._read_number("general.sampling.temp", _DEFAULT_TEMPERATURE)
        self._top_p = self._read_number("general.sampling.top_p", _DEFAULT_TOP_P)
        self._top_k = int(self._read_number("general.sampling.top_k", _DEFAULT_TOP_K))

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
            ) from _shortage()
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
            ) from _shortage()
        return context

    def _fitting_context(self, wanted: int) -> int:
        trained: int = llama.llama_model_n_ctx_train(self._model)
        if wanted > trained:
            _logger.info("%s: context %d instead of %d: it was trained with no more", self._name, trained, wanted)
        return min(wanted, trained)

    def _read_special_tokens(self) -> dict[str, str]:
        ids = {
            "bos_token": llama.llama_vocab_bos(self._vocab),
            "eos_token": llama.llama_vocab_eos(self._vocab),
            "pad_token": llama.llama_vocab_pad(self._vocab),
            "sep_token": llama.llama_vocab_sep(self._vocab),
        }
        return {name: self._token_text(token) for name, token in ids.items() if token != llama.LLAMA_TOKEN_NULL}

    def _read_control_tokens(self) -> tuple[str, ...]:
        control = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN
        return tuple(
            self._token_text(token)
            for token in range(llama.llama_vocab_n_tokens(self._vocab))
            if llama.llama_vocab_get_attr(self._vocab, token) & control
        )

    def _token_text(self, token: int) -> str:
        text: bytes = llama.llama_vocab_get_text(self._vocab, token)
        return text.decode(errors="replace")

    def _read_number(self, key: str, default: float) -> float:
        value = ctypes.create_string_buffer(64)
        length = llama.llama_model_meta_val_str(self._model, key.encode(), value, len(value))
        return float(value.value) if length > 0 else default

    def _generate(self, prompt: str, sampling: Sampling, cancelled: Cancelled) -> Iterator[Piece]:
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
        sampler = self._create_sampler(sampling)
        try:
            llama.llama_memory_seq_rm(self._memory, _SEQUENCE, -1, -1)
            for start in range(0, len(tokens), _BATCH):
                if cancelled.is_set():
                    return
                self._decode(tokens[start : start + _BATCH], start)
            yield from self._continue(len(tokens), most, sampler, cancelled)
        finally:
            llama.llama_sampler_free(sampler)

    def _continue(self, prompt_tokens: int, most: int, sampler: Any, cancelled: Cancelled) -> Iterator[Piece]:
        characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        position, held = prompt_tokens, 0
        for left in range(most - 1, -1, -1):
            if cancelled.is_set():
                return
            token = llama.llama_sampler_sample(sampler, self._context, -1)
            held += 1
            if llama.llama_vocab_is_eog(self._vocab, token):
                yield Piece("", held, prompt_tokens, "stop")
                return
            text = characters.decode(self._token_bytes(token))
            if left == 0:
                yield Piece(text, held, prompt_tokens, "length")
                return
            if text:
                yield Piece(text, held, prompt_tokens)
                held = 0
            self._decode([token], position)
            position += 1

    def _tokenize(self, prompt: str) -> list[int]:
        tokens = [token for span in spans(prompt) for token in self._tokenize_span(span)]
        if llama.llama_vocab_get_add_bos(self._vocab):
            bos = llama.llama_vocab_bos(self._vocab)
            if tokens[:1] != [bos]:  # most templates write it themselves
                tokens.insert(0, bos)
        return tokens

    def _tokenize_span(self, text: str) -> list[int]:
        data = text.encode(errors="replace")
        room = len(data) + 8  # at most a token a byte, and some vocabularies put a space before
        tokens = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocab, data, len(data), tokens, room, False, True)
        if count < 0:
            raise InvalidRequest("the prompt cannot be tokenized", param="messages")
        return list(tokens[:count])

    def _token_bytes(self, token: int) -> bytes:
        data = ctypes.create_string_buffer(64)
        length = llama.llama_token_to_piece(self._vocab, token, data, len(data), 0, False)
        if length < 0:
            data = ctypes.create_string_buffer(-length)
            length = llama.llama_token_to_piece(self._vocab, token, data, len(data), 0, False)
        return data.raw[:length]

    def _create_sampler(self, sampling: Sampling) -> Any:
        temperature = self._temperature if sampling.temperature is None else sampling.temperature
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        if temperature == 0:
            llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
            return chain
        top_p = self._top_p if sampling.top_p is None else sampling.top_p
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        for sampler in (
            llama.llama_sampler_init_top_k(self._top_k),
            llama.llama_sampler_init_top_p(top_p, 1),
            llama.llama_sampler_init_temp(temperature),
            llama.llama_sampler_init_dist(seed % llama.LLAMA_DEFAULT_SEED),  # that one itself means "random"
        ):
            llama.llama_sampler_chain_add(chain, sampler)
        return chain

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
            raise LlmuxError("the model failed while it computed this answer") from _shortage()

    def _free(self, _: Cancelled) -> None:
        if self._batch is not None:
            llama.llama_batch_free(self._batch)
        if self._context is not None:
            llama.llama_free(self._context)
        if self._model is not None:
            llama.llama_model_free(self._model)
        self._batch = self._context = self._model = None


class _Heard(threading.local):
    """shortage: the last line in which llama.cpp told this thread that there was no memory"""

    shortage: str | None = None


_heard = _Heard()
_ERROR = 4
"""GGML_LOG_LEVEL_ERROR of ggml.h"""


@llama.llama_log_callback
def _log(level: int, text: bytes, data: object) -> None:
    line = text.decode(errors="replace").strip(" .\n")
    if line:
        _logger.debug("%s", line)
    if level == _ERROR and says_full(line):
        _heard.shortage = line


def _shortage() -> MemoryError | None:
    """What was short when a call of llama.cpp's failed on this thread. It says so in its log alone."""
    line, _heard.shortage = _heard.shortage, None
    return None if line is None else MemoryError(line)


@ctypes.CFUNCTYPE(None, ctypes.c_char_p)
def _last_words(reason: bytes) -> None:
    """Called just before ggml aborts the process, as it does when a GPU's memory runs out within a computation.

    reason: file, line and message; the file as it was where llama.cpp was built
    """
    said = re.sub(r"^.*/(?=[^/]+:\d+: )", "", reason.decode(errors="replace"), flags=re.DOTALL)
    model = threading.current_thread().name.removeprefix(THREAD_PREFIX).removesuffix("_0")
    because = f" ({_heard.shortage})" if _heard.shortage else ""
    _logger.critical("%s: llama.cpp aborts the process: %s%s", model, said, because)


@cache
def _start_backend() -> None:
    llama.llama_log_set(_log, None)
    libggml.ggml_set_abort_callback(_last_words)
    llama.llama_backend_init()


def _check_magic(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise WeightsMissing(f"{name} is missing in the folder of this model's weights") from None
    except OSError as error:
        raise LoadFailed(f"{name} cannot be read ({type(error).__name__})") from None
    if magic != b"GGUF":
        raise LoadFailed(f"{name} is not a GGUF file")
