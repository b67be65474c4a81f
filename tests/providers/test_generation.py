"""Answers as they go on: several at once, and how likely their tokens are. The rest is in test_chat.py."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from llmux.errors import LlmuxError
from providers.runtime import Image, Piece, Sampling, TokenLogprob
from tests import templates
from tests.providers.test_chat import CALL, ENTRY, HI, TOOLS, Scripted, answer, chunks, provider


class Numbered(Scripted):
    """Says its seed, word by word; the answers take turns."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0

    async def generate(
        self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()
    ) -> AsyncGenerator[Piece, None]:
        self.open += 1
        try:
            for word in ("I am ", str(sampling.seed)):
                await asyncio.sleep(0)
                yield Piece(word, 1, 7, cached_tokens=4)
            yield Piece("", 1, 7, "length" if sampling.seed == 6 else "stop", cached_tokens=4)
        finally:
            self.open -= 1


async def test_several_answers_have_seeds_of_their_own_and_one_usage() -> None:
    response = await answer(Numbered(), n=3, seed=5)
    said = [(choice.index, choice.message.content, choice.finish_reason) for choice in response.choices]
    assert said == [(0, "I am 5", "stop"), (1, "I am 6", "length"), (2, "I am 7", "stop")]
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (7, 9)
    assert response.usage.prompt_tokens_details.cached_tokens == 4


async def test_several_answers_take_turns() -> None:
    got = await chunks(Numbered(), n=2, seed=5)
    said = [(choice.index, choice.delta.content) for chunk in got for choice in chunk.choices if choice.delta.content]
    assert said[:2] == [(0, "I am"), (1, "I am")]


async def test_when_a_client_leaves_every_answer_is_closed() -> None:
    runtime = Numbered()
    stream = provider(runtime).astreaming(model="small", messages=HI, optional_params={"n": 4}, litellm_params=ENTRY)
    await anext(stream)
    assert runtime.open == 4
    await stream.aclose()
    assert runtime.open == 0


async def test_an_error_of_one_answer_ends_them_all() -> None:
    class Failing(Numbered):
        async def generate(
            self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()
        ) -> AsyncGenerator[Piece, None]:
            async with aclosing(super().generate(prompt, sampling, images)) as pieces:
                async for piece in pieces:
                    if sampling.seed == 6 and piece.text == "6":
                        raise LlmuxError("broken")
                    yield piece

    runtime = Failing()
    with pytest.raises(LlmuxError, match="broken"):
        await answer(runtime, n=3, seed=5)
    assert runtime.open == 0


# Logprobs


class Likely(Scripted):
    """Tells how likely its words are: each a little less than the one before."""

    async def generate(
        self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()
    ) -> AsyncGenerator[Piece, None]:
        words = [word.encode() for word in self.words]
        told = [
            TokenLogprob(word.decode(errors="replace"), word, -number / 4, [("!", b"!", -3.0)])
            for number, word in enumerate([*words, b"<|im_end|>"])
        ]
        half = len(words) // 2
        yield Piece("".join(self.words[:half]), half, 7, logprobs=told[:half])
        yield Piece("".join(self.words[half:]), len(words) - half + 1, 7, "stop", told[half:])


def likely(*words: str) -> Likely:
    return Likely(*words, template=templates.QWEN)


def tokens_told(choice: Any) -> list[str]:
    return [token.token for token in choice.logprobs.content]


async def test_logprobs_are_of_what_is_said_alone() -> None:
    runtime = likely("I", " look", "</think>", "\n\n", "It", " is", "<tool_call>", *CALL[1:-1], "</tool_call>", "warm")
    response = await answer(runtime, logprobs=True, top_logprobs=1)
    assert runtime.words[0] == "I"
    choice = response.choices[0]
    assert tokens_told(choice)[:2] == ["It", " is"]
    assert choice.logprobs.content[0].logprob == -1.0
    assert choice.logprobs.content[0].bytes == [73, 116]
    assert [(other.token, other.logprob) for other in choice.logprobs.content[0].top_logprobs] == [("!", -3.0)]


async def test_calls_have_no_logprobs() -> None:
    response = await answer(likely("</think>", "Now", *CALL), logprobs=True, tools=TOOLS)
    assert response.choices[0].message.tool_calls
    assert tokens_told(response.choices[0])[0] == "Now"


async def test_nothing_is_told_of_a_stop_string() -> None:
    response = await answer(likely("</think>", "one", " two", " three"), logprobs=True, stop=" two")
    assert response.choices[0].message.content == "one"
    assert tokens_told(response.choices[0]) == ["one"]


async def test_streamed_logprobs_come_with_their_text() -> None:
    got = await chunks(likely("</think>", "one", " two", " three"), logprobs=True)
    told = [
        (chunk.choices[0].delta.content, tokens_told(chunk.choices[0])) for chunk in got if chunk.choices[0].logprobs
    ]
    assert told == [("one", ["one"]), (" two three", [" two", " three"])]
