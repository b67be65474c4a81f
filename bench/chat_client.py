"""A client of chat completions that costs next to nothing, because it runs on the cores that it measures.

An answer is noted as it comes, and understood only afterwards: a real client has a machine of its own.
"""

import asyncio
import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_PART_BYTES = 1 << 16
_MOST_S = 600.0
_READERS = ThreadPoolExecutor(64, thread_name_prefix="reader")
"""One for each stream."""


@dataclass(slots=True)
class Heard:
    """One answer: seconds to its first text, from each text to the next, and to its end; how many tokens it has."""

    first_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    whole_s: float = 0.0
    tokens: int = 0
    cached_tokens: int = 0
    text: str = ""


class Listening:
    """began_s: when the answer was asked for"""

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self._last_s: float | None = None
        self.heard = Heard()

    def text(self, text: str, at_s: float) -> None:
        if self._last_s is None:
            self.heard.first_s = at_s - self._began_s
        else:
            self.heard.gaps_s.append(at_s - self._last_s)
        self._last_s = at_s
        self.heard.text += text

    def end(self, tokens: int, cached_tokens: int) -> Heard:
        """Raises RuntimeError where nothing was heard."""
        if self._last_s is None:
            raise RuntimeError("an answer without text")
        self.heard.whole_s = self._last_s - self._began_s
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
        began_s, parts = await asyncio.get_running_loop().run_in_executor(
            _READERS, streamed, self._address, self._key, self._model, messages, max_tokens
        )
        listening = Listening(began_s)
        usage: Mapping[str, Any] = {}
        for at_s, chunk in chunks(parts):
            for choice in chunk.get("choices") or ():
                if text := choice["delta"].get("content"):
                    listening.text(text, at_s)
            usage = chunk.get("usage") or usage
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        # llama-cpp-python's server counts nothing in a stream, and sends a chunk for each token.
        return listening.end(usage.get("completion_tokens") or len(listening.heard.gaps_s) + 1, cached)


def streamed(
    address: str, key: str, model: str, messages: Sequence[Mapping[str, Any]], max_tokens: int
) -> tuple[float, list[tuple[float, bytes]]]:
    """When it was asked, and what came when. A thread that waits at a socket is the cheapest there is."""
    parts = urlsplit(address)
    asked = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    body = json.dumps({**asked, "stream": True, "stream_options": {"include_usage": True}}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.hostname}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    came: list[tuple[float, bytes]] = []
    began_s = time.perf_counter()
    with socket.create_connection((parts.hostname, parts.port), timeout=_MOST_S) as connection:
        connection.sendall(head.encode() + body)
        while part := connection.recv(_PART_BYTES):
            came.append((time.perf_counter(), part))
    whole = b"".join(part for _, part in came)
    status = whole.partition(b"\r\n")[0]
    if b" 200 " not in status:
        raise RuntimeError(f"{status.decode()}: {whole.decode(errors='replace')[-500:]}")
    return began_s, came


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
