"""How LiteLLM's proxy sends a chunk that says some text: as LiteLLM writes it, in a fifth of its calls.

For each chunk it asks whether Azure chose the model, compares names, and looks for what a text has not, one by one: a
fifth of the calls that a token took, and a twentieth more to ask twice what it was told besides (docs/measurements.md).
A chunk that has more, LiteLLM sends, without choices that say nothing (hooks/usage.py).
"""

from typing import Any

import orjson
from litellm.proxy import proxy_server

from hooks.usage import without_silence
from providers.text_chunk import TextChunk


def install() -> None:
    """Put the shorter way in place. Call once a process."""
    write, name = proxy_server._fast_serialize_simple_model_response_stream, proxy_server._restamp_streaming_chunk_model
    look = proxy_server.get_hidden_params_dict

    def written(chunk: Any) -> bytes | None:
        fields = chunk.fields() if isinstance(chunk, TextChunk) else None
        return write(chunk) if fields is None else orjson.dumps(fields)

    def named(*, chunk: Any, requested_model_from_client: str, model_mismatch_logged: bool, **more: Any) -> Any:
        if isinstance(chunk, TextChunk) and not more.get("fallback_was_attempted"):
            if chunk.model == requested_model_from_client:
                return chunk, model_mismatch_logged
            if model_mismatch_logged:  # LiteLLM has looked at this stream, and gave it the client's name
                return chunk.model_copy(update={"model": requested_model_from_client}), True
        return name(
            chunk=without_silence(chunk),
            requested_model_from_client=requested_model_from_client,
            model_mismatch_logged=model_mismatch_logged,
            **more,
        )

    def hidden(response: Any, **more: Any) -> dict[str, Any]:
        private = response.__pydantic_private__ if isinstance(response, TextChunk) else None
        found: dict[str, Any] = look(response, **more) if private is None else private["_hidden_params"]
        return found

    proxy_server.get_hidden_params_dict = hidden
    proxy_server._fast_serialize_simple_model_response_stream = written
    proxy_server._restamp_streaming_chunk_model = named
