"""What is heard of an answer, and when."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.chat_client import Client, Listening, chunks


def test_texts_are_heard_from_the_first_to_the_last() -> None:
    listening = Listening(10.0)
    for word, at_s in {"a": 10.5, "b": 11.0, "c": 12.5}.items():
        listening.text(word, at_s)
    heard = listening.end(5, 2, 13.0)
    assert (heard.first_s, heard.gaps_s, heard.asked_s, heard.ended_s) == (0.5, [0.5, 1.5], 10.0, 13.0)
    assert (heard.text, heard.tokens, heard.cached_tokens) == ("abc", 5, 2)


def test_an_answer_without_text_is_none() -> None:
    with pytest.raises(RuntimeError, match="without text"):
        Listening(0.0).end(3, 0, 1.0)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_event_stream_is_its_json_however_it_is_cut_and_has_come_with_its_end(end: bytes) -> None:
    blank = 2 * end
    parts = [
        (1.0, b": waiting" + blank + b'data: {"a": 1}' + blank + b'data: {"a'),
        (2.0, b'": 2}'),
        (3.0, blank + b"data: [DONE]" + blank),
    ]
    assert list(chunks(parts)) == [(1.0, {"a": 1}), (3.0, {"a": 2})]


@asynccontextmanager
async def server(status: str, chunks: Sequence[Mapping[str, Any]]) -> AsyncIterator[str]:
    """Answers whatever it is asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\n\r\n: waiting\n\n".encode())
        for chunk in chunks:
            writer.write(f"data: {json.dumps(chunk)}\n\n".encode())
        writer.write(b"data: [DONE]\n\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def said(text: str) -> Mapping[str, Any]:
    return {"choices": [{"delta": {"content": text}}]}


async def test_the_client_hears_what_a_server_streams() -> None:
    usage = {"completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}
    async with server("200 OK", [said("Hel"), said("lo"), {"choices": [], "usage": usage}]) as address:
        heard = await Client(address, "key", "model").ask([{"role": "user", "content": "Hi"}], 8)
    assert (heard.text, heard.tokens, heard.cached_tokens, len(heard.gaps_s)) == ("Hello", 7, 3, 1)


async def test_where_nothing_is_counted_a_chunk_is_a_token() -> None:
    async with server("200 OK", [said("a"), said("b"), said("c")]) as address:
        assert (await Client(address, "key", "model").ask([], 8)).tokens == 3


async def test_a_refusal_is_no_answer() -> None:
    async with server("503 Service Unavailable", []) as address:
        with pytest.raises(RuntimeError, match="503"):
            await Client(address, "key", "model").ask([], 8)
