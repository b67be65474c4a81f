"""The form that asks for a transcription, as clients really send it."""

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import UploadFile

from llmux.errors import InvalidRequest

_FIELDS = frozenset(
    {"language", "model", "prompt", "response_format", "stream", "task", "temperature", "timestamp_granularities"}
)


def complete(data: MutableMapping[str, Any]) -> None:
    """Take from the query string what the form leaves out, and leave out files beside the one that is to be heard.

    data: what LiteLLM read, with the address that was asked for in its proxy_server_request
    Raises InvalidRequest where form and query string say different things.
    """
    for name in [name for name, value in data.items() if isinstance(value, UploadFile)]:
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
