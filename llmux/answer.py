"""The last word on what leaves the gateway: every error is an OpenAI-shaped JSON object that gives nothing away.

An error that llmux noted (request.py) is told as it is. One of LiteLLM's keeps its status and its message, once the
message is free of tracebacks, paths and internal names. A stream that has begun ends with the same error, as a frame.
"""

import asyncio
import json
import logging
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmux import request
from llmux.errors import LlmuxError, Stopping
from llmux.frame import last_frames
from llmux.litellm_errors import of_litellm
from llmux.surface import ROUTES, is_open

log = logging.getLogger("llmux")

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable",
}

_KEPT = (b"access-control-allow-origin", b"vary")
"""Headers of a refused request's answer without which a page of a host in `cors_origins` could not read the error."""

_FRAME = b'data: {"error"'
_REJECTED = "Rejected Request: "
"""How LiteLLM marks a body that it will not take. It says so with a 401, but the key is not what is wrong."""

_LITELLM_PREFIX = re.compile(r"^(?:litellm\.)?\w*(?:Error|Exception)\s*:\s*|^(?:\w+Exception)\s*-\s*")
_LITELLM_TAIL = re.compile(
    r"\s*(?:Clientside passthrough|Received Model Group|Available Model Group Fallbacks|LiteLLM:? |Passed model"
    r"|Traceback \()"
)
_PATH = re.compile(r"(?<![\w:/])(?:/[\w.@+-]+){2,}/?|[A-Za-z]:\\[^\s'\"]+")
_SECRET = re.compile(r"\bsk-[\w-]{4,}|\b[0-9a-f]{64}\b")


def presentable(message: str) -> str:
    """A message of LiteLLM's without its class names, model groups, tracebacks, paths and keys."""
    message = _LITELLM_TAIL.split(message.rpartition(_REJECTED)[2], maxsplit=1)[0]
    while (shorter := _LITELLM_PREFIX.sub("", message)) != message:
        message = shorter
    message = _SECRET.sub("[key]", _PATH.sub(_without_path, message)).strip()
    return message or "the request failed"


def _without_path(found: re.Match[str]) -> str:
    route = found[0]
    return route if is_open(route, ROUTES) or is_open(f"/v1{route}", ROUTES) else "[path]"


def error_body(status: int, body: bytes) -> dict[str, Any]:
    """The OpenAI error object for an error that LiteLLM or FastAPI wrote."""
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    parsed = parsed if isinstance(parsed, dict) else {}
    error = parsed.get("error", parsed.get("detail"))
    if isinstance(error, list) and error and isinstance(error[0], dict):  # FastAPI's validation errors
        where = ".".join(str(part) for part in error[0].get("loc", ())[1:])
        error = {"message": f"{where}: {error[0].get('msg', 'is not valid')}", "param": where or None}
    if isinstance(error, dict) and isinstance(error.get("error"), dict | str):
        error = error["error"]
    if not isinstance(error, dict):
        error = {"message": error if isinstance(error, str) else HTTPStatus(status).phrase}
    kind = error.get("type")
    known = isinstance(kind, str) and kind not in ("", "None", "null", "auth_error", "internal_server_error")
    code = error.get("code")
    return {
        "error": {
            "message": "the gateway failed; its log says why" if status == 500 else presentable(str(error["message"])),
            "type": kind if known else _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            "param": None if error.get("param") in (None, "None") else error["param"],
            "code": None if code is None or code == "None" or str(code).isdigit() else code,
        }
    }


class Answer:
    """ASGI: rewrites errors on their way out, and lets everything else pass as it comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        outgoing = _Outgoing(send, f"{scope['method']} {scope['path']}")
        try:
            await self._app(scope, receive, outgoing)
        except asyncio.CancelledError:  # the server stops, and has waited long enough
            await outgoing.stop(Stopping("the gateway is stopping; try again shortly"))
        except Exception as error:
            if outgoing.finished:  # Starlette raises again what it has answered
                return
            if outgoing.started:
                raise
            await send_error(error if isinstance(error, LlmuxError) else _unforeseen(error), send)


class _Outgoing:
    """One response. An error is held until it is whole; a stream is looked at frame by frame."""

    def __init__(self, send: Send, name: str) -> None:
        self._send = send
        self._name = name
        self._request = request.begin()
        self._start: Message | None = None
        self._body = b""
        self._stream = False
        self.started = self.finished = False

    async def __call__(self, message: Message) -> None:
        if self.finished:  # by an error, which is the last that a stream says
            return
        if message["type"] == "http.response.start":
            self.started = True
            if message["status"] >= 400:
                self._start = message
                return
            self._stream = _content_type(message).startswith(b"text/event-stream")
        elif self._start is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_error(self._start)
            return
        elif self._stream and (told := self._error_in(message.get("body", b""))) is not None:
            message = {"type": "http.response.body", "body": last_frames(told)}
        self.finished = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    async def stop(self, error: LlmuxError) -> None:
        """End the answer: with this error where nothing or a stream of events was begun, else by leaving off."""
        if not self.started:
            await send_error(error, self._send)
        elif self._stream and not self.finished:
            await self({"type": "http.response.body", "body": last_frames(error.body()["error"])})

    async def _send_error(self, start: Message) -> None:
        self.finished = True
        status = start["status"]
        error = self._request.error or of_litellm(status, self._body)
        kept = [(name, value) for name, value in start["headers"] if name.lower() in _KEPT]
        if error is not None:
            await send_error(error, self._send, kept)
            return
        if status >= 500:
            log.error("%s failed inside LiteLLM with %s; LLMUX_LOG=debug shows why", self._name, status)
        if status == 422 or (status == 401 and _REJECTED.encode() in self._body):
            status = 400  # OpenAI's word for a request that is not right
        body = error_body(status, self._body)
        passed = [(name, value) for name, value in start["headers"] if name.lower() in (b"retry-after", b"allow")]
        await _send_json(status, body, [*kept, *passed], self._send)

    def _error_in(self, frame: bytes) -> dict[str, Any] | None:
        """The error object that this part of a stream stands for. In other APIs than chat, LiteLLM wraps its words."""
        error = self._request.error
        if frame.startswith(_FRAME):
            first = frame.partition(b"\n\n")[0].removeprefix(b"data: ")
            told = error.body() if error is not None else error_body(200, first)
        elif error is not None and b"litellm." in frame:
            told = error.body()
        else:
            return None
        found: dict[str, Any] = told["error"]
        return found


def _unforeseen(error: Exception) -> LlmuxError:
    log.error("%s before anything was answered; LLMUX_LOG=debug shows where", type(error).__name__, exc_info=True)
    return LlmuxError("the gateway failed to answer; its log says where")


def _content_type(start: Message) -> bytes:
    return next((value for name, value in start["headers"] if name.lower() == b"content-type"), b"")


async def send_error(error: LlmuxError, send: Send, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Answer with this error, before anything else was sent."""
    own = [(name.encode(), value.encode()) for name, value in error.response_headers().items()]
    await _send_json(error.status_code, error.body(), [*headers, *own], send)


async def _send_json(status: int, body: dict[str, Any], headers: list[tuple[bytes, bytes]], send: Send) -> None:
    payload = json.dumps(body).encode()
    headers = [*headers, (b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
