"""What a client may not decide, though LiteLLM would let it: where a request goes, how often, and what it costs.

LiteLLM merges the members of a body with parameters of its own before it calls any hook. Some make a request free,
leave it out of the request log, or end the writing of that log for everybody. So they are taken out before LiteLLM
reads it: what it would obey, which admission.py refuses once the key is known, and what no local model reads.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from litellm.types.utils import all_litellm_params
from openai.types.audio.speech_create_params import SpeechCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams
from openai.types.responses.response_create_params import ResponseCreateParamsBase as ResponseParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmux.errors import InvalidRequest
from llmux.request import current

OVERRIDES = frozenset(
    {
        "api_base",
        "api_key",
        "api_version",
        "base_url",
        "cache",
        "cache_hit",
        "caching",
        "call_type",
        "client",
        "content_policy_fallbacks",
        "context_window_fallbacks",
        "custom_llm_provider",
        "deployment_id",
        "extra_headers",
        "fallbacks",
        "force_timeout",
        "litellm_params",
        "max_retries",
        "mock_response",
        "mock_testing_content_policy_fallbacks",
        "mock_testing_context_fallbacks",
        "mock_testing_fallbacks",
        "mock_timeout",
        "mock_tool_calls",
        "model_list",
        "no-log",
        "num_retries",
        "retry_policy",
        "specific_deployment",
        "start_time",
        "stream_timeout",
        "timeout",
        "view",
    }
)
"""Names that LiteLLM never adds to a request by itself, so that each that a hook finds is a client's."""

_ITS_OWN = OVERRIDES | frozenset(all_litellm_params)

_OPENAI = frozenset().union(
    *(params.__annotations__ for params in (ChatParams, CompletionParams, ResponseParams, SpeechCreateParams)),
    ["stream"],
)

_ANTHROPIC = frozenset(
    {"cache_control", "container", "mcp_servers", "output_config", "output_format", "stop_sequences", "system"}
    | {"thinking"}
)

_RUNTIMES = frozenset(
    {"chat_template_kwargs", "enable_thinking", "min_p", "repetition_penalty", "top_k"}
    | {"cfg_weight", "exaggeration", "language"}
)
"""What local models know beyond both (providers/parameters.py, providers/speech.py)."""

KNOWN = (_OPENAI | _ANTHROPIC | _RUNTIMES) - {"metadata"}
"""Members of a body that a local model is given. LiteLLM's accounts read others, and trip over some; and over what
metadata may hold.
"""

_ANSWERS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/audio/speech")
"""Where a body asks for an answer. What else is open may take a form (recordings, files) or other members."""


def refuse_overrides(data: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for what a client may not decide.

    data: what LiteLLM made of a request
    """
    if sent := OVERRIDES.intersection(data):
        raise _refusal(min(sent))


def _refusal(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name} is decided by the gateway's configuration; leave it out", param=name)


def readable(body: bytes, elsewhere: Collection[str] = ()) -> tuple[bytes, InvalidRequest | None]:
    """A body as LiteLLM may read it, and what is wrong with the one that the client sent.

    elsewhere: names of models that are not local, whose providers may know more members than KNOWN
    """
    try:
        # Whatever LiteLLM can read is read here: its own parser takes less, but for the depth.
        members = json.loads(body)
    except (ValueError, RecursionError):
        return b"{}", InvalidRequest("the body is not JSON")
    if not isinstance(members, dict):
        return b"{}", InvalidRequest("the body must be a JSON object")
    sent = _ITS_OWN.intersection(members) - {"metadata"}
    more = set() if members.get("model") in tuple(elsewhere) else members.keys() - KNOWN
    dropped = sent | more | ({"metadata"} & members.keys())
    if not dropped:
        return body, None
    kept = {name: value for name, value in members.items() if name not in dropped}
    return json.dumps(kept).encode(), _refusal(min(sent)) if sent else None


class Overrides:
    """ASGI: takes out of the body of a request for an answer what a client may not decide, and notes it.

    Such a body is read as JSON, whatever its content type says.

    elsewhere: names of models that other providers of LiteLLM's serve
    """

    def __init__(self, app: ASGIApp, *, elsewhere: Collection[str] = ()) -> None:
        self._app = app
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in _ANSWERS:
            body, disconnect = await _whole(receive)
            if disconnect is None:
                body, current().problem = readable(body, self._elsewhere)
            scope = {**scope, "headers": [*_kept(scope["headers"]), (b"content-type", b"application/json")]}
            receive = _replayed(disconnect or {"type": "http.request", "body": body, "more_body": False}, receive)
        await self._app(scope, receive, send)


def _kept(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in (b"content-type", b"content-length")]


async def _whole(receive: Receive) -> tuple[bytes, Message | None]:
    """A body, or what came instead of its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"", message
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts), None


def _replayed(first: Message, receive: Receive) -> Receive:
    waiting = [first]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
