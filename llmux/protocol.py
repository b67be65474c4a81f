"""HTTP/1.1 as uvicorn speaks it through h11, where a token is a part of a body.

For each part h11 asks both sides' states what it may change; a part of a body that is on its way changes neither. That
was a twentieth of the calls that a token took (docs/measurements.md).
"""

from typing import Any

import h11
from h11._writers import ChunkedWriter
from uvicorn.protocols.http.h11_impl import H11Protocol


class Protocol(H11Protocol):
    """A connection's protocol, for uvicorn's `http`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.conn.__class__ = Connection  # with the limits that uvicorn gave it


class Connection(h11.Connection):
    """The server's side of a connection, as h11 has it."""

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        writer = self._writer
        if type(event) is h11.Data and type(writer) is ChunkedWriter and self.our_state is h11.SEND_BODY:
            data: list[bytes] = []
            writer(event, data.append)
            return data
        return super().send_with_data_passthrough(event)
