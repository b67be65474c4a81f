"""Images for a GGUF model: its projector, run by llama.cpp's mtmd library, turns pixels into what stands for tokens."""

import ctypes
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import llama_cpp.llama_cpp as llama
import llama_cpp.mtmd_cpp as mtmd
import numpy as np

from llmux.errors import InvalidRequest, LlmuxError, LoadFailed
from providers import llama_log
from providers.llama_vocabulary import LlamaVocabulary
from providers.runtime import Image

_logger = logging.getLogger(__name__)

IMAGE_TOKENS = ("<|image_pad|>", "<start_of_image>", "<|image|>", "<image_soft_token>", "[IMG]", "<image>")
"""What templates write for an image: Qwen, Gemma 3, Gemma 4 and Llama 4, PaliGemma, Pixtral, LLaVA."""


def image_token(template: str, vocabulary: LlamaVocabulary) -> str | None:
    """The one that this chat template writes; None where it knows no images."""
    return next((text for text in IMAGE_TOKENS if text in template and vocabulary.token(text) is not None), None)


class Picture:
    """One image, ready to be computed.

    before, after: the tokens that the model wants around it
    tokens: how much of the context it takes
    """

    def __init__(self, chunks: Any) -> None:
        self._chunks = chunks
        self.before: list[int] = []
        self.after: list[int] = []
        self.chunk: Any = None
        for index in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, index)
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                (self.before if self.chunk is None else self.after).extend(_text_tokens(chunk))
            elif self.chunk is None:
                self.chunk = chunk
            else:
                raise LlmuxError("this model cuts images into pieces, which is not supported")
        self.tokens: int = mtmd.mtmd_input_chunk_get_n_tokens(self.chunk)

    def __enter__(self) -> "Picture":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        mtmd.mtmd_input_chunks_free(self._chunks)


def _text_tokens(chunk: Any) -> list[int]:
    count = ctypes.c_size_t()
    tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    return list(tokens[: count.value]) if tokens else []


class Projector:
    """A loaded projector; `close` is due before the model is freed."""

    def __init__(self, path: Path, model: Any) -> None:
        """model: the llama_model that it belongs to. Raises LoadFailed."""
        parameters = mtmd.mtmd_context_params_default()
        parameters.print_timings = False
        parameters.n_threads = len(os.sched_getaffinity(0))
        self._context = mtmd.mtmd_init_from_file(os.fsencode(path), model, parameters)
        if not self._context:
            raise LoadFailed(
                f"llama.cpp cannot load {path.name}: it is incomplete or damaged, is no projector of this model, or "
                "the memory does not suffice; the log at level debug says which"
            ) from llama_log.shortage()

    @property
    def sees(self) -> bool:
        """Whether it takes images; some take sound alone."""
        return bool(mtmd.mtmd_support_vision(self._context))

    def picture(self, image: Image) -> Picture:
        """A context manager."""
        height, width, _ = image.shape
        pixels = np.ascontiguousarray(image).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd.mtmd_bitmap_init(width, height, pixels)
        chunks = mtmd.mtmd_input_chunks_init()
        marker = mtmd.mtmd_get_marker(self._context)
        text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
        try:
            status = mtmd.mtmd_tokenize(
                self._context, chunks, ctypes.byref(text), (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap), 1
            )
        finally:
            mtmd.mtmd_bitmap_free(bitmap)
        if status != 0:
            mtmd.mtmd_input_chunks_free(chunks)
            raise InvalidRequest("an image cannot be prepared for this model", param="messages")
        return Picture(chunks)

    def compute(self, picture: Picture, context: Any, *, position: int, sequence: int, batch: int) -> int:
        """Compute it in this llama_context, `batch` tokens in one step; logits are kept for its last. The position that
        follows: nearer than its tokens are many where the model counts rows and columns.
        """
        following = llama.llama_pos()
        status = mtmd.mtmd_helper_eval_chunk_single(
            self._context, context, picture.chunk, position, sequence, batch, True, ctypes.byref(following)
        )
        if status != 0:
            _logger.error("mtmd_helper_eval_chunk_single returned %d", status)
            raise LlmuxError("the model failed while it looked at an image") from llama_log.shortage()
        return int(following.value)

    def close(self) -> None:
        mtmd.mtmd_free(self._context)
