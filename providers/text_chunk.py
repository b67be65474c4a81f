"""A chunk of a stream that says some text, and nothing else.

LiteLLM's layers look at some sixty of its attributes. In LiteLLM's own classes most of them are no fields, and for each
that is none, or is not there, pydantic goes a long way in Python: more than half of what a chunk costs. Here what is
there is a field, and what is not is known at once. Neither makes a difference that LiteLLM sees: some of it asks which
attributes there are.
"""

from typing import Any

from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices


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


class TextChunk(ModelResponseStream):
    choices: list[_Choice]

    def __getattr__(self, name: str) -> Any:
        if name == "usage":
            raise AttributeError(name)
        return super().__getattr__(name)

    def saying(self, name: str, text: str) -> "TextChunk":
        """The same with this text, in the field content or reasoning_content."""
        (choice,) = self.choices
        delta = choice.delta.model_copy(update={name: text})
        copied: TextChunk = self.model_copy(update={"choices": [choice.model_copy(update={"delta": delta})]})
        return copied


def text_chunk(identity: dict[str, Any], hidden: dict[str, Any], index: int) -> TextChunk:
    """One that says nothing yet.

    identity: the fields that each chunk of the stream has; hidden: what LiteLLM is told besides
    index: of the answer
    """
    said = _Said.model_construct()
    del said.reasoning_content, said.thinking_blocks, said.reasoning_items  # as LiteLLM does where there are none
    choice = _Choice.model_construct(index=index, delta=said)
    chunk: TextChunk = TextChunk.model_construct(**identity, object="chat.completion.chunk", choices=[choice])
    chunk.hidden_params = hidden
    return chunk
