"""The one place that adapts LiteLLM for sound.

A provider of one's own (CustomLLM) serves chat; transcription and speech are dispatched over a fixed list of LiteLLM's
own providers, and its OpenAI transport would read all of a sound before sending any of it. But the router looks
`litellm.atranscription` and `litellm.aspeech` up by name at each call: so here they become dispatchers, which answer
for llmux's models in process and hand everything else on. A test fails when LiteLLM grows its own way.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import litellm
from litellm.types.llms.openai import HttpxBinaryResponseContent
from starlette.responses import JSONResponse, Response, StreamingResponse

from llmux.config import PROVIDER
from llmux.request import errors_noted
from providers.speech import SpeechProvider
from providers.transcription import TranscriptionProvider


class SpeechStream(HttpxBinaryResponseContent):
    """Sound that is still being made, in the shape in which LiteLLM's speech route reads one."""

    def __init__(self, content_type: str, chunks: AsyncGenerator[bytes, None]) -> None:
        super().__init__(httpx.Response(200, headers={"content-type": content_type}))
        self._chunks = chunks

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Chunks as they are made: gathering them to chunk_size would delay the first."""
        return self._chunks


class Transcription(Response):
    """A finished answer, which LiteLLM's transcription route returns as it is."""

    def __init__(self, body: str | dict[str, Any], content_type: str) -> None:
        content = JSONResponse(body).body if isinstance(body, dict) else body
        super().__init__(content, media_type=content_type)
        self._hidden_params: dict[str, Any] = {}


class TranscriptionEvents(StreamingResponse):
    """An answer that is still being made, which LiteLLM's transcription route returns as it is."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], content_type: str) -> None:
        super().__init__(chunks, media_type=content_type)
        self._hidden_params: dict[str, Any] = {}


def install(transcription: TranscriptionProvider, speech: SpeechProvider) -> None:
    """Put the dispatchers in place. Call once a process."""
    other_transcription, other_speech = litellm.atranscription, litellm.aspeech

    async def atranscription(*args: Any, **kwargs: Any) -> Any:
        physical = _physical(kwargs.get("model"))
        if physical is None:
            return await other_transcription(*args, **kwargs)
        with errors_noted():
            answer = await transcription.transcribe(physical, kwargs["file"].read(), kwargs)
        if isinstance(answer.body, str | dict):
            return Transcription(answer.body, answer.content_type)
        return TranscriptionEvents(answer.body, answer.content_type)

    async def aspeech(*args: Any, **kwargs: Any) -> Any:
        physical = _physical(kwargs.get("model"))
        if physical is None:
            return await other_speech(*args, **kwargs)
        with errors_noted():
            answer = await speech.speak(physical, kwargs)
        return SpeechStream(answer.content_type, answer.chunks)

    litellm.atranscription, litellm.aspeech = atranscription, aspeech


def _physical(model: object) -> str | None:
    provider, _, physical = model.partition("/") if isinstance(model, str) else ("", "", "")
    return physical if provider == PROVIDER else None
