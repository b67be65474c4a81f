"""A recording is a file, also where its client gives it no name.

In a form, what has no file name is a text: Starlette would decode the recording's bytes as one, and LiteLLM would find
no file.
"""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ROUTE = "/v1/audio/transcriptions"
_FILE = re.compile(rb'\r\ncontent-disposition:[^\r\n]*[;\s]name="?file"?(?=[;\s])[^\r\n]*(?=\r\n)', re.IGNORECASE)
_NAMED = re.compile(rb'filename=("[^"]|[^"\s;])', re.IGNORECASE)
_NO_NAME = re.compile(rb'\s*;\s*filename(?:\*=[^;\r\n]*|="?"?)', re.IGNORECASE)
"""An empty one, or one that is written in a way which is not for forms (RFC 7578, section 4.2)."""
_LONGEST_HEADER = 512


class Upload:
    """ASGI: gives the file part of a transcription's form a name where it has none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == _ROUTE:
            receive = _Body(receive).receive
        await self._app(scope, receive, send)


class _Body:
    """Looked through until the file's header has come; what follows passes as it is."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._found = False
        self._held = b""

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or self._found:
            return message
        body, self._held = self._held + message.get("body", b""), b""
        header = _FILE.search(body)
        if header is not None:
            self._found = True
            body = body[: header.start()] + named(header[0]) + body[header.end() :]
        elif message.get("more_body"):  # a header may be cut in two
            body, self._held = body[:-_LONGEST_HEADER], body[-_LONGEST_HEADER:]
        return {**message, "body": body}


def named(header: bytes) -> bytes:
    """A part's Content-Disposition with a file name in it."""
    if _NAMED.search(header):
        return header
    return _NO_NAME.sub(b"", header) + b'; filename="recording"'
