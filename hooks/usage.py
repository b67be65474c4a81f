"""Chunks of a stream without choices that say nothing.

The last one tells what was used, and has no choices: clients tell it from the answer by that. LiteLLM gives it an empty
one. And where several answers are streamed, the end of one stands beside a silent choice (providers/completion.py).
"""

from typing import Any


def without_silence(chunk: Any) -> Any:
    """A chunk of a chat or of a text completion, changed in place; whatever else is streamed is as it was."""
    choices = getattr(chunk, "choices", None)
    if choices and getattr(chunk, "usage", None) is not None and not any(map(_says_something, choices)):
        chunk.choices = []
    elif choices and len(choices) > 1:
        chunk.choices = [choice for choice in choices if _says_something(choice)]
    return chunk


def _says_something(choice: Any) -> bool:
    """LiteLLM gives each chunk of a text completion a usage of zeros."""
    delta = getattr(choice, "delta", None)
    said = choice.text if delta is None else delta.model_dump(exclude_none=True)
    return bool(said) or choice.finish_reason is not None
