"""A body's parts go out as h11 writes them, and what is no such part is left to h11."""

import asyncio
from typing import Any

import h11
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from llmux.protocol import Connection, Protocol

CHUNKED: list[tuple[str, str]] = []


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application."""


def asked(connection: h11.Connection, version: bytes = b"1.1") -> h11.Connection:
    connection.receive_data(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Request)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    return connection


@given(st.lists(st.binary(max_size=40), max_size=6), st.sampled_from([b"1.0", b"1.1"]))
def test_a_body_of_unknown_length_is_written_as_h11_writes_it(parts: list[bytes], version: bytes) -> None:
    ours, theirs = asked(Connection(h11.SERVER), version), asked(h11.Connection(h11.SERVER), version)
    events = [h11.Response(status_code=200, headers=CHUNKED), *(h11.Data(data=part) for part in parts)]
    for event in [*events, h11.EndOfMessage()]:
        assert ours.send(event) == theirs.send(event)
        assert ours.states == theirs.states


def test_a_part_of_a_body_goes_past_h11s_states(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = asked(Connection(h11.SERVER))
    connection.send(h11.Response(status_code=200, headers=CHUNKED))
    monkeypatch.setattr(connection, "_process_event", None)
    assert connection.send(h11.Data(data=b"Hi")) == b"2\r\nHi\r\n"


def test_a_body_of_known_length_is_still_held_to_it() -> None:
    connection = asked(Connection(h11.SERVER))
    connection.send(h11.Response(status_code=200, headers=[("content-length", "2")]))
    with pytest.raises(h11.LocalProtocolError):
        connection.send(h11.Data(data=b"long"))
    assert connection.our_state is h11.ERROR


def test_nothing_is_sent_outside_a_body() -> None:
    connection = asked(Connection(h11.SERVER))
    with pytest.raises(h11.LocalProtocolError):
        connection.send(h11.Data(data=b"early"))
    connection = asked(Connection(h11.SERVER))
    connection.send(h11.Response(status_code=200, headers=CHUNKED))
    connection.send(h11.EndOfMessage())
    with pytest.raises(h11.LocalProtocolError):
        connection.send(h11.Data(data=b"late"))


async def test_uvicorn_takes_it_as_its_own() -> None:
    config = uvicorn.Config(nothing, http=Protocol)
    config.load()
    assert config.http_protocol_class is Protocol
    protocol = Protocol(config, ServerState(), {}, asyncio.get_running_loop())
    assert type(protocol.conn) is Connection


def test_h11_still_has_what_is_looked_at() -> None:
    """When this fails, look at what h11 does now: llmux/protocol.py may have become useless, or wrong."""
    connection = asked(Connection(h11.SERVER))
    connection.send(h11.Response(status_code=200, headers=CHUNKED))
    assert type(connection._writer).__name__ == "ChunkedWriter"
