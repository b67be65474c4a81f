"""Chunks of a stream without choices that say nothing.

The last one tells what was used, and has no choices: clients tell it from the answer by that. And where several answers
are streamed, the end of one stands beside a silent choice (providers/completion.py).
"""

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth

from providers.text_chunk import TextChunk


class UsageChunk(CustomLogger):
    """LiteLLM's hook on a stream of chunks. LiteLLM gives the usage an empty choice."""

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: UserAPIKeyAuth, response: AsyncIterable[Any], request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        async for chunk in response:
            choices = None if isinstance(chunk, TextChunk) else getattr(chunk, "choices", None)
            if choices and getattr(chunk, "usage", None) is not None and not any(map(_says_something, choices)):
                chunk.choices = []
            elif choices and len(choices) > 1:
                chunk.choices = [choice for choice in choices if _says_something(choice)]
            yield chunk


def _says_something(choice: Any) -> bool:
    """LiteLLM gives each chunk of a text completion a usage of zeros."""
    delta = getattr(choice, "delta", None)
    said = choice.text if delta is None else delta.model_dump(exclude_none=True)
    return bool(said) or choice.finish_reason is not None
