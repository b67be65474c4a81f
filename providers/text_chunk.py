"""A chunk of a stream that says some text, and nothing else.

LiteLLM's layers look at some sixty of its attributes. In LiteLLM's own classes most of them are no fields, and for each
that is none, or is not there, pydantic goes a long way in Python: more than half of what a chunk costs. Here what is
there is a field, and what is not is known at once. Neither makes a difference that LiteLLM sees: some of it asks which
attributes there are.
"""

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices
from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


class _Said(Delta):
    content: str | None = None
    role: None = None
    function_call: None = None
    tool_calls: None = None
    audio: None = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class _Choice(StreamingChoices):
    index: int
    delta: _Said
    finish_reason: str | None = None
    logprobs: None = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


_SAID = {"content", "reasoning_content"}


class TextChunk(ModelResponseStream):
    choices: list[_Choice]

    def __getattr__(self, name: str) -> Any:
        if name == "usage":
            raise AttributeError(name)
        private = object.__getattribute__(self, "__pydantic_private__")  # not there yet in one that is being made
        return private[name] if private and name in private else super().__getattr__(name)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        return super().model_copy(update=update, deep=deep) if deep else _copy(self, **(update or {}))

    def fields(self) -> dict[str, Any] | None:
        """What a client is told of it; None where it says more than a text, since whoever it passed made it so."""
        if len(self.choices) != 1:
            return None
        (choice,) = self.choices
        delta = choice.delta
        more = (self.__pydantic_extra__, choice.__pydantic_extra__, delta.__pydantic_extra__, choice.finish_reason)
        said = {name: value for name, value in delta.__dict__.items() if value is not None}
        if (
            any(more)
            or choice.logprobs
            or self.system_fingerprint
            or self.provider_specific_fields
            or said.keys() - _SAID
        ):
            return None
        told = {"index": choice.index, "delta": said}
        return {"id": self.id, "created": self.created, "model": self.model, "object": self.object, "choices": [told]}

    def saying(self, name: str, text: str) -> "TextChunk":
        """The same with this text, in the field content or reasoning_content."""
        (choice,) = self.choices
        return _copy(self, choices=[_copy(choice, delta=_copy(choice.delta, **{name: text}))])


def _copy(model: M, /, **changed: Any) -> M:
    """With these fields changed, as `model_copy` makes it, which takes half as long again."""
    copied, extra, private = object.__new__(type(model)), model.__pydantic_extra__, model.__pydantic_private__
    _set(copied, "__dict__", {**model.__dict__, **changed})
    _set(copied, "__pydantic_fields_set__", model.__pydantic_fields_set__.union(changed))
    _set(copied, "__pydantic_extra__", None if extra is None else extra.copy())
    _set(copied, "__pydantic_private__", None if private is None else private.copy())
    return copied


_set = object.__setattr__
"""pydantic's own looks for a field of the name."""


def text_chunk(identity: dict[str, Any], hidden: dict[str, Any], index: int) -> TextChunk:
    """One that says nothing yet.

    identity: the fields that each chunk of the stream has; hidden: what LiteLLM is told besides
    index: of the answer
    """
    (choice,) = _NOBODYS.choices
    chunk = _copy(_NOBODYS, **identity, choices=[_copy(choice, index=index)])
    chunk.hidden_params = hidden
    return chunk


def _nobodys() -> TextChunk:
    said = _Said.model_construct()
    del said.reasoning_content, said.thinking_blocks, said.reasoning_items  # as LiteLLM does where there are none
    choice = _Choice.model_construct(index=0, delta=said)
    chunk: TextChunk = TextChunk.model_construct(
        id="", created=0, model="", object="chat.completion.chunk", choices=[choice]
    )
    return chunk


_NOBODYS = _nobodys()
"""What all are copies of."""
