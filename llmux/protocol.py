"""HTTP as the gateway speaks it: uvicorn's protocol on httptools, with a limit to what surrounds a body.

httptools, the parser of Node.js, keeps a request's head until it is whole, however long it is. h11, uvicorn's other
parser, has a limit, and is written in Python: a twentieth of the calls that an answer took (docs/measurements.md).
"""

import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from llmux.errors import HeadersTooLarge, InvalidRequest, LlmuxError

HEAD_BYTES = 64 * 1024
"""Most of a request's head, or of what stands between two parts of its body."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _unread = 0
    """Bytes since the last that were of use to a request."""

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HeadersTooLarge(f"a request's headers may be {HEAD_BYTES // 1024} KB at most"))

    def on_headers_complete(self) -> None:
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls where the parser finds no HTTP."""
        self._refuse(InvalidRequest("this is not HTTP as RFC 9112 has it"))

    def _refuse(self, error: LlmuxError) -> None:
        """The last word on this connection; none where an answer is under way, which it would be taken for."""
        if self.cycle is None or self.cycle.response_complete:
            body = json.dumps(error.body()).encode()
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status_code] + head + body)
        self.transport.close()
