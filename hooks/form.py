"""The form that asks for a transcription, as clients really send it."""

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import UploadFile

from hooks.overrides import OVERRIDES
from llmux.errors import InvalidRequest

_FIELDS = frozenset(
    {"language", "model", "prompt", "response_format", "stream", "task", "temperature", "timestamp_granularities"}
)
_KNOWN = OVERRIDES | {
    *_FIELDS,
    "chunking_strategy",
    "file",
    "include",
    "known_speaker_names",
    "known_speaker_references",
    "litellm_call_id",
    "timestamp_granularities[]",
    "user",
}
"""OpenAI's fields, what is refused, and the one text that LiteLLM adds. No runtime reads others, but LiteLLM does, and
would take a text for an object of its own.
"""

_OF_LITELLM = {"headers", "used_client_oauth_token"}
"""What LiteLLM has put into a client's metadata by the time that it calls a hook."""


def complete(data: MutableMapping[str, Any]) -> None:
    """Take from the query string what the form leaves out, and leave out files beside the one that is to be heard, and
    fields that nobody knows.

    data: what LiteLLM read, with the address that was asked for in its proxy_server_request
    Raises InvalidRequest where form and query string say different things, and for metadata.
    """
    of_client = ((data.get("metadata") or {}).get("requester_metadata") or {}).keys() - _OF_LITELLM
    if of_client or "litellm_metadata" in data:
        raise InvalidRequest("metadata is not taken with a recording; leave it out", param="metadata")
    for name in [name for name in data if _is_unread(name, data[name])]:
        del data[name]
    url = (data.get("proxy_server_request") or {}).get("url") or ""
    said: dict[str, list[str]] = {}
    for name, value in parse_qsl(urlsplit(url).query):
        said.setdefault(name.removesuffix("[]"), []).append(value)
    for name in sorted(_FIELDS.intersection(said)):
        several = name == "timestamp_granularities"
        form = data.get(name) or []
        values = [*(form if isinstance(form, list) else [form]), *said[name]]
        if not several and len(set(values)) > 1:
            raise InvalidRequest(f"{name} is given twice, and not the same; say it once", param=name)
        data[name] = values if several else values[0]


def _is_unread(name: str, value: object) -> bool:
    return isinstance(value, UploadFile) or (name not in _KNOWN and isinstance(value, str | list))
