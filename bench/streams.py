"""Several streams of chat at once: how fast they are together, and how smooth each is."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import httpx

PROMPT = "Write a long story about a dragon and a lighthouse, in the year {number}."

Answers = Callable[[str, int], AsyncIterator[int]]
"""A stream: a prompt, and how many tokens are wanted; so many tokens as each piece brings, 0 where it does not say."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Tokens a second of all together; seconds to the first piece; seconds between pieces, p50 and p99."""

    tokens_per_s: float
    first_s: float
    between_s: float
    worst_s: float


async def measure(answers: Answers, count: int, tokens: int, first_number: int) -> Streams:
    """So many streams at once, each with a prompt that was not seen before.

    Raises RuntimeError for answers that ended early: they would be compared with longer ones.
    """
    prompts = [PROMPT.format(number=first_number + number) for number in range(count)]
    began_s = time.perf_counter()
    watches = await asyncio.gather(*(_watch(answers(prompt, tokens)) for prompt in prompts))
    took_s = time.perf_counter() - began_s
    written = sum(brought for _, brought in watches)
    if written < 0.9 * count * tokens:
        raise RuntimeError(f"{count} answers have {written} tokens instead of {count * tokens}")
    times = [moments for moments, _ in watches]
    gaps = sorted(later - earlier for moments in times for earlier, later in pairwise(moments))
    return Streams(
        written / took_s,
        median(moments[0] for moments in times) - began_s,
        gaps[len(gaps) // 2],
        gaps[math.ceil(0.99 * len(gaps)) - 1],
    )


async def _watch(pieces: AsyncIterator[int]) -> tuple[list[float], int]:
    moments, brought = [], 0
    async for tokens in pieces:
        moments.append(time.perf_counter())
        brought += tokens
    return moments, brought


def middle(runs: Sequence[Streams]) -> Streams:
    names = ("tokens_per_s", "first_s", "between_s", "worst_s")
    return Streams(*(median(getattr(run, name) for run in runs) for name in names))


def of_server(client: httpx.AsyncClient, model: str) -> Answers:
    """Streams of an OpenAI-compatible server."""

    async def stream(prompt: str, tokens: int) -> AsyncIterator[int]:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        usage = 0
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                chunk = _chunk(line)
                usage = (chunk.get("usage") or {}).get("completion_tokens", usage)
                if any(choice["delta"].get("content") for choice in chunk.get("choices", ())):
                    yield 0
        yield usage

    return stream


def _chunk(line: str) -> Mapping[str, Any]:
    data = line.removeprefix("data: ")
    if data in (line, "[DONE]"):
        return {}
    chunk: Mapping[str, Any] = json.loads(data)
    return chunk


def of_runtime(runtime: Any) -> Answers:
    """Streams of a ChatRuntime in this process."""
    from providers import dialect
    from providers.runtime import Sampling

    async def stream(prompt: str, tokens: int) -> AsyncIterator[int]:
        rendered = dialect.render(
            [{"role": "user", "content": prompt}],
            template=runtime.chat_template,
            special_tokens=runtime.special_tokens,
            control_tokens=runtime.control_tokens,
        )
        async for piece in runtime.generate(rendered, Sampling(max_tokens=tokens, temperature=0)):
            yield piece.tokens

    return stream
