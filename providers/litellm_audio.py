"""The one place that adapts LiteLLM for sound.

A provider of one's own (CustomLLM) serves chat; transcription and speech are dispatched over a fixed list of LiteLLM's
own providers, and its OpenAI transport would read all of a sound before sending any of it. But the router looks
`litellm.atranscription` and `litellm.aspeech` up by name at each call: so here they become dispatchers, which answer
for llmux's models in process and hand everything else on. A test fails when LiteLLM grows its own way.

What answers wears `litellm.client`, as LiteLLM's own functions do: when it returns, that prices the call, counts it for
its key and logs it. A transcription is paid by the seconds that were listened to. Speech that was begun is paid by the
characters of its text, however much of it the client stayed for.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.types.llms.openai import HttpxBinaryResponseContent
from litellm.types.utils import TranscriptionResponse
from pydantic import PrivateAttr
from starlette.responses import JSONResponse, Response, StreamingResponse

from llmux.config import PROVIDER
from llmux.request import current, errors_noted
from providers.speech import Speech, SpeechProvider
from providers.transcription import TranscriptionProvider

T = TypeVar("T")
U = TypeVar("U")


class _Sending:
    """What is still being made for a client, on its way to it."""

    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        self._chunks = chunks
        self._over = asyncio.Event()
        self._error: Exception | None = None
        current().on_end(self._over.set)  # also where nobody came to listen

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exception as error:
            self._error = error
            raise
        finally:
            self._over.set()

    async def over(self) -> None:
        """Wait until it was sent, or its client is gone. Raises what went wrong in between."""
        await self._over.wait()
        if self._error is not None:
            raise self._error


class SpeechStream(HttpxBinaryResponseContent):
    """Sound that is still being made, in the shape in which LiteLLM's speech route reads one."""

    def __init__(self, sound: Speech) -> None:
        super().__init__(httpx.Response(200, headers={"content-type": sound.content_type}))
        self.sending = _Sending(sound.chunks)

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Chunks as they are made: gathering them to chunk_size would delay the first."""
        return self.sending.chunks()


class TrueType(CustomLogger):
    """Gives speech its own content type: LiteLLM's route knows those of sound alone, and not that of events."""

    async def async_post_call_response_headers_hook(
        self, data: Any, user_api_key_dict: Any, response: Any, *_: Any, **__: Any
    ) -> dict[str, str] | None:
        if not isinstance(response, SpeechStream):
            return None
        return {"content-type": response.response.headers["content-type"]}


class Transcription(Response):
    """A finished answer, which LiteLLM's transcription route returns as it is."""

    def __init__(self, body: str | dict[str, Any], content_type: str) -> None:
        content = JSONResponse(body).body if isinstance(body, dict) else body
        super().__init__(content, media_type=content_type)
        self._hidden_params: dict[str, Any] = {}


class TranscriptionEvents(StreamingResponse):
    """An answer that is still being made, which LiteLLM's transcription route returns as it is."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], content_type: str) -> None:
        self.sending = _Sending(chunks)
        super().__init__(self.sending.chunks(), media_type=content_type)
        self._hidden_params: dict[str, Any] = {}


class _Heard(TranscriptionResponse):
    """A transcription as LiteLLM's accounts know one, and the answer that the client gets."""

    _answer: Transcription | TranscriptionEvents = PrivateAttr()

    def __init__(self, answer: Transcription | TranscriptionEvents, text: str, duration_s: float) -> None:
        super().__init__(text=text)
        self._hidden_params = {"audio_transcription_duration": duration_s}
        self._answer = answer

    @property
    def answer(self) -> Transcription | TranscriptionEvents:
        return self._answer


def install(transcription: TranscriptionProvider, speech: SpeechProvider) -> None:
    """Put the dispatchers in place. Call once a process."""
    other_transcription, other_speech = litellm.atranscription, litellm.aspeech

    async def dispatch_transcription(*args: Any, **kwargs: Any) -> Any:
        if _physical(kwargs.get("model")) is None:
            return await other_transcription(*args, **kwargs)
        begun: asyncio.Future[TranscriptionEvents] = asyncio.get_running_loop().create_future()

        @litellm.client  # which knows a function's kind by its name
        async def atranscription(**kwargs: Any) -> _Heard:
            physical = _told(kwargs)
            with errors_noted():
                transcript = await transcription.transcribe(physical, kwargs["file"].read(), kwargs)
            if not isinstance(transcript.body, str | dict):
                events = TranscriptionEvents(transcript.body, transcript.content_type)
                begun.set_result(events)
                await events.sending.over()
                return _Heard(events, "", transcript.duration_s())
            text = transcript.body if isinstance(transcript.body, str) else transcript.body["text"]
            return _Heard(Transcription(transcript.body, transcript.content_type), text, transcript.duration_s())

        result = await _once_begun(begun, atranscription(**kwargs))
        return result.answer if isinstance(result, _Heard) else result

    async def dispatch_speech(*args: Any, **kwargs: Any) -> Any:
        if _physical(kwargs.get("model")) is None:
            return await other_speech(*args, **kwargs)
        begun: asyncio.Future[SpeechStream] = asyncio.get_running_loop().create_future()

        @litellm.client
        async def aspeech(**kwargs: Any) -> SpeechStream:
            physical = _told(kwargs)
            with errors_noted():
                stream = SpeechStream(await speech.speak(physical, kwargs))
            begun.set_result(stream)
            await stream.sending.over()
            return stream

        return await _once_begun(begun, aspeech(**kwargs))

    litellm.atranscription, litellm.aspeech = dispatch_transcription, dispatch_speech
    litellm.callbacks.append(TrueType())


_in_progress: set[asyncio.Task[Any]] = set()


async def _once_begun(begun: asyncio.Future[T], call: Coroutine[Any, Any, U]) -> T | U:
    """What a call has begun, while it goes on in a task of its own; or what it returned or raised before."""
    task = asyncio.create_task(call, name="sound")
    _in_progress.add(task)
    task.add_done_callback(_ended)
    either: set[asyncio.Future[Any]] = {task, begun}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        task.cancel()
        raise
    return begun.result() if begun.done() else await task


def _ended(task: asyncio.Task[Any]) -> None:
    _in_progress.discard(task)
    if not task.cancelled():
        task.exception()  # LiteLLM has logged it, and the client had it in its stream


def _told(kwargs: dict[str, Any]) -> str:
    """Tell LiteLLM's accounts whose call this is and what it is priced by. The physical model's name."""
    physical = _physical(kwargs["model"])
    assert physical is not None
    known = ("litellm_call_id", "metadata", "model_info", "proxy_server_request")
    kwargs["litellm_logging_obj"].update_environment_variables(
        model=physical,
        user=kwargs.get("user"),
        optional_params={},
        litellm_params={name: kwargs.get(name) for name in known},
        custom_llm_provider=PROVIDER,
        input=kwargs.get("input"),
    )
    return physical


def _physical(model: object) -> str | None:
    provider, _, physical = model.partition("/") if isinstance(model, str) else ("", "", "")
    return physical if provider == PROVIDER else None
