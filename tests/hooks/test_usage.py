"""The chunk that tells what was used has no choices, and every other chunk is as it was."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from litellm.proxy._types import UserAPIKeyAuth
from litellm.types.utils import (
    Delta,
    ModelResponseStream,
    StreamingChoices,
    TextChoices,
    TextCompletionResponse,
    Usage,
)

from hooks.usage import UsageChunk


async def stream(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


async def through(*chunks: Any) -> list[Any]:
    hook = UsageChunk().async_post_call_streaming_iterator_hook(UserAPIKeyAuth(), stream(*chunks), {})
    return [chunk async for chunk in hook]


async def test_the_usage_comes_without_choices() -> None:
    choices = [StreamingChoices(index=0, delta=Delta())]
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    (chunk,) = await through(ModelResponseStream(choices=choices, usage=usage))
    assert chunk.choices == []
    assert chunk.usage.total_tokens == 3


@pytest.mark.parametrize(("text", "finish_reason"), [("Hi", None), ("", "length")])
async def test_a_part_of_a_text_completion_keeps_its_choice_whatever_usage_litellm_gives_it(
    text: str, finish_reason: str | None
) -> None:
    answer = TextCompletionResponse(
        choices=[TextChoices(index=0, text=text, finish_reason=finish_reason)], usage=Usage()
    )
    (chunk,) = await through(answer)
    assert len(chunk.choices) == 1


async def test_the_answer_passes_as_it_is() -> None:
    answer = ModelResponseStream(choices=[StreamingChoices(index=0, delta=Delta(content="Hi"))])
    event = {"type": "response.created"}
    assert await through(answer, event, b"data: x") == [answer, event, b"data: x"]
    assert answer.choices[0].delta.content == "Hi"
