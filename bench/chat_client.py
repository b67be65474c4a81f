"""A client of chat completions, and what it heard when."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bench.http_stream import Came, posted

_READERS = ThreadPoolExecutor(64, thread_name_prefix="reader")
"""One for each stream."""


@dataclass(slots=True)
class Heard:
    """One answer: seconds to its first text, and from each text to the next; when it was asked for, and over; how many
    tokens it has.
    """

    first_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    asked_s: float = 0.0
    ended_s: float = 0.0
    tokens: int = 0
    cached_tokens: int = 0
    text: str = ""


class Listening:
    """asked_s: when the answer was asked for"""

    def __init__(self, asked_s: float) -> None:
        self._last_s: float | None = None
        self.heard = Heard(asked_s=asked_s)

    def text(self, text: str, at_s: float) -> None:
        if self._last_s is None:
            self.heard.first_s = at_s - self.heard.asked_s
        else:
            self.heard.gaps_s.append(at_s - self._last_s)
        self._last_s = at_s
        self.heard.text += text

    def end(self, tokens: int, cached_tokens: int, ended_s: float) -> Heard:
        """Raises RuntimeError where nothing was heard."""
        if self._last_s is None:
            raise RuntimeError("an answer without text")
        self.heard.ended_s = ended_s
        self.heard.tokens, self.heard.cached_tokens = tokens, cached_tokens
        return self.heard


class Client:
    """address: of a server, such as http://127.0.0.1:8081; key: its key, where it wants one; model: as it calls it"""

    def __init__(self, address: str, key: str, model: str) -> None:
        self._address = address
        self._key = key
        self._model = model

    async def ask(self, messages: Sequence[Mapping[str, Any]], max_tokens: int) -> Heard:
        """One streamed answer, greedy. Raises RuntimeError where there is none."""
        came = await asyncio.get_running_loop().run_in_executor(
            _READERS, streamed, self._address, self._key, self._model, messages, max_tokens
        )
        listening = Listening(came.asked_s)
        usage: Mapping[str, Any] = {}
        for at_s, chunk in chunks(came.parts):
            for choice in chunk.get("choices") or ():
                if text := choice["delta"].get("content"):
                    listening.text(text, at_s)
            usage = chunk.get("usage") or usage
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        # llama-cpp-python's server counts nothing in a stream, and sends a chunk for each token.
        return listening.end(usage.get("completion_tokens") or len(listening.heard.gaps_s) + 1, cached, came.ended_s)


def streamed(address: str, key: str, model: str, messages: Sequence[Mapping[str, Any]], max_tokens: int) -> Came:
    body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True}
    return posted(f"{address}/v1/chat/completions", key, {**body, "stream_options": {"include_usage": True}})


def chunks(parts: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """The JSON objects of an event stream, and when the last part of each came.

    parts: when each came, and what it was
    """
    rest = b""
    for at_s, part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield at_s, json.loads(line[6:])
