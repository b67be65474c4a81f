"""An answer over HTTP and when its parts came, for clients that run on the cores that they measure.

A thread that waits at a socket costs the least there is. What came is understood only afterwards: a real client has a
machine of its own, and what this one does meanwhile would count as the server's.
"""

import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

_PART_BYTES = 1 << 12
_MOST_S = 600


@dataclass(frozen=True, slots=True)
class Came:
    """asked_s, ended_s: when it was asked for, and all there; parts: of the body, and when each was there"""

    asked_s: float
    ended_s: float
    parts: Sequence[tuple[float, bytes]]


def posted(url: str, key: str, body: Mapping[str, Any]) -> Came:
    """What answers a POST of JSON. Raises RuntimeError where the status is not 200, and OSError where none comes."""
    address = urlsplit(url)
    connection = h11.Connection(h11.CLIENT)
    data = json.dumps(body).encode()
    headers = {
        "Host": address.netloc,
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        "Connection": "close",
    }
    request = h11.Request(method="POST", target=address.path, headers=list(headers.items()))
    sent = [connection.send(event) for event in (request, h11.Data(data=data), h11.EndOfMessage())]
    came = []
    with socket.create_connection((address.hostname, address.port)) as server:
        # With a timeout of its own Python asks the kernel twice for each part: whether it has come, and for it.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _MOST_S, 0))
        asked_s = time.perf_counter()  # clients keep their connections
        server.sendall(b"".join(part for part in sent if part))
        while part := server.recv(_PART_BYTES):
            came.append((time.perf_counter(), part))
    ended_s = came[-1][0] if came else asked_s
    return Came(asked_s, ended_s, list(_body(connection, [*came, (ended_s, b"")])))


def _body(connection: h11.Connection, came: Sequence[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    refused = b""
    status = 0
    for at_s, part in came:
        connection.receive_data(part)
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            match event:
                case h11.Response(status_code=status):
                    pass
                case h11.Data(data=data) if status == 200:
                    yield at_s, bytes(data)
                case h11.Data(data=data):
                    refused += data
                case h11.EndOfMessage() | h11.ConnectionClosed():
                    break
    if status != 200:
        raise RuntimeError(f"{status}: {refused.decode(errors='replace')[-500:]}")
