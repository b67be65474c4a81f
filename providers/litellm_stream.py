"""How LiteLLM takes a chunk of ours: as it is, and keeps it for its accounts with the text before it.

For each chunk of a stream it makes a response of its own first, and throws that away where the provider's is whole
already, as ours are. That was a fifth of what a token costs the event loop (docs/measurements.md). And it keeps every
chunk, to make one answer of all of them before it lets the stream end: 0.1 ms a token.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Self
from weakref import WeakKeyDictionary

import litellm
from litellm.litellm_core_utils import streaming_handler
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.types.utils import ModelResponse, ModelResponseStream

from llmux.config import PROVIDER
from providers.text_chunk import TextChunk

_MOST = 256
"""Chunks of one stream that are looked at together, once: not all of them are texts that can be merged."""

_FEW = 32
"""Chunks that are made one answer in less time than another thread takes to begin."""


def install() -> None:
    """Put the shorter way in place. Call once a process."""
    of_litellm = CustomStreamWrapper.chunk_creator

    def chunk_creator(self: CustomStreamWrapper, chunk: Any) -> Any:
        if self.custom_llm_provider != PROVIDER or not isinstance(chunk, ModelResponseStream):
            return of_litellm(self, chunk)
        self.response_id, self.created = chunk.id, chunk.created  # for the last one, which LiteLLM makes
        says = isinstance(chunk, TextChunk)
        counts = not says and getattr(chunk, "usage", None) is not None  # and says nothing, after all texts
        if counts or len(self.chunks) % _MOST == 0:
            self.chunks[-_MOST:] = merged(self.chunks[-_MOST:])
        if counts:
            self.chunks.append(chunk)
            return None
        if says:
            return chunk
        result = self._dispatch_provider_chunk(chunk=chunk, model_response=chunk, completion_obj={})
        return result.value

    CustomStreamWrapper.chunk_creator = chunk_creator
    streaming_handler.asyncify = _once(_on_a_thread_if_long(streaming_handler.asyncify))


class Whole(ModelResponse):
    """The answer that a stream came to. LiteLLM copies it to the depths, twice, for its cache of answers."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        copied: Self = super().model_copy(update=update, deep=deep and litellm.cache is not None)
        return copied


def _on_a_thread_if_long(asyncify: Callable[..., Any]) -> Callable[..., Any]:
    """Of LiteLLM's, which is there for the function that makes one answer of all chunks. It runs when the last word was
    said and before the client learns of it.
    """

    def shorter(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def made(*, chunks: Sequence[Any], **more: Any) -> Any:
            if len(chunks) <= _FEW and any(getattr(chunk, "usage", None) for chunk in chunks):  # else it counts tokens
                return function(chunks=chunks, **more)
            return await asyncify(function)(chunks=chunks, **more)

        return made

    return shorter


def _once(asyncify: Callable[..., Any]) -> Callable[..., Any]:
    """LiteLLM makes the answer twice, of the same chunks: for the client's usage, and for its own accounts."""
    made: WeakKeyDictionary[Any, tuple[int, Any]] = WeakKeyDictionary()

    def remembering(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def answer(*, chunks: Sequence[Any], logging_obj: Any, **more: Any) -> Any:
            of, result = made.pop(logging_obj, (0, None))
            if of != len(chunks):
                result = await asyncify(function)(chunks=chunks, logging_obj=logging_obj, **more)
                if type(result) is ModelResponse:
                    result.__class__ = Whole
                made[logging_obj] = len(chunks), result
            return result

        return answer

    return remembering


def merged(chunks: Sequence[ModelResponseStream]) -> list[ModelResponseStream]:
    """The same stream, with texts that follow each other in one chunk, a copy that no client is told."""
    made = []
    for of, neighbours in groupby(chunks, key=_text_of):
        alike = list(neighbours)
        if of is not None and len(alike) > 1:
            alike = [_one(alike, of[1])]
        made += alike
    return made


def _one(chunks: Sequence[ModelResponseStream], name: str) -> ModelResponseStream:
    text = "".join(getattr(chunk.choices[0].delta, name) for chunk in chunks)
    first = chunks[0]
    if isinstance(first, TextChunk):
        return first.saying(name, text)
    one = first.model_copy(deep=True)
    setattr(one.choices[0].delta, name, text)
    return one


def _text_of(chunk: ModelResponseStream) -> tuple[int, str] | None:
    """Which answer it has text of, and by what name, where it has nothing else."""
    if len(chunk.choices) != 1 or (not isinstance(chunk, TextChunk) and getattr(chunk, "usage", None) is not None):
        return None
    (choice,) = chunk.choices
    delta = choice.delta
    if choice.finish_reason or delta.role or delta.tool_calls or getattr(choice, "logprobs", None):
        return None
    said = {**delta.__dict__, **(delta.__pydantic_extra__ or {})}  # what is in neither, pydantic seeks for long
    names = [name for name in ("content", "reasoning_content") if said.get(name)]
    return (choice.index, names[0]) if len(names) == 1 else None
