import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast

import litellm
import pytest
from litellm import CustomLLM
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

from llmux.errors import InvalidAudio, InvalidRequest, LlmuxError
from llmux.request import begin
from providers import litellm_audio
from providers.litellm_audio import SpeechStream, Transcription, TranscriptionEvents, TrueType
from providers.speech import Speech, SpeechProvider
from providers.transcript import Transcript
from providers.transcription import TranscriptionProvider


class Ears:
    async def transcribe(self, physical: str, file_bytes: bytes, options: dict[str, Any]) -> Transcript:
        if file_bytes == b"broken":
            raise InvalidAudio("not a sound")
        if options.get("response_format") == "text":
            return Transcript(f"{physical} heard {len(file_bytes)} bytes\n", "text/plain; charset=utf-8", lambda: 2.5)
        if options.get("stream") == "true":
            return Transcript(self._events(), "text/event-stream", lambda: 2.5)
        return Transcript({"text": "heard"}, "application/json", lambda: 2.5)

    async def _events(self) -> AsyncGenerator[bytes, None]:
        yield b"data: one\n\n"
        yield b"data: two\n\n"


class Mouth:
    async def speak(self, physical: str, request: dict[str, Any]) -> Speech:
        async def chunks() -> AsyncGenerator[bytes, None]:
            yield physical.encode()
            if request["input"] == "stammer":
                raise LlmuxError("the voice failed")
            yield request["input"].encode()

        if request["voice"] == "nobody":
            raise InvalidRequest("no such voice")

        return Speech("audio/mpeg", chunks())


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def elsewhere(*_: Any, **kwargs: Any) -> str:
        return f"LiteLLM serves {kwargs['model']}"

    monkeypatch.setattr(litellm, "atranscription", elsewhere)
    monkeypatch.setattr(litellm, "aspeech", elsewhere)
    monkeypatch.setattr(litellm, "callbacks", [])
    litellm_audio.install(cast(TranscriptionProvider, Ears()), cast(SpeechProvider, Mouth()))


def test_litellm_still_has_no_way_of_its_own() -> None:
    """When this fails, LiteLLM's custom providers can serve sound: use that, and delete providers/litellm_audio.py."""
    assert not [name for name in dir(CustomLLM) if "transcription" in name or "speech" in name]


async def test_text_is_a_bare_body_with_its_type() -> None:
    answer = await litellm.atranscription(model="llmux/ears", file=io.BytesIO(b"1234"), response_format="text")
    assert isinstance(answer, Transcription)
    assert answer.body == b"ears heard 4 bytes\n"
    assert answer.media_type == "text/plain; charset=utf-8"


async def test_json_is_json() -> None:
    answer = await litellm.atranscription(model="llmux/ears", file=io.BytesIO(b"1234"))
    assert (answer.body, answer.media_type) == (b'{"text":"heard"}', "application/json")


async def test_events_are_a_response_that_is_still_being_made() -> None:
    answer = await litellm.atranscription(model="llmux/ears", file=io.BytesIO(b"1234"), stream="true")
    assert isinstance(answer, TranscriptionEvents)
    assert answer.media_type == "text/event-stream"
    assert [chunk async for chunk in answer.body_iterator] == [b"data: one\n\n", b"data: two\n\n"]


async def test_speech_streams_chunk_by_chunk_whatever_size_is_asked_for() -> None:
    answer = await litellm.aspeech(model="llmux/mouth", input="hello", voice="default")
    assert isinstance(answer, SpeechStream)
    assert answer.response.headers["content-type"] == "audio/mpeg"
    assert [chunk async for chunk in await answer.aiter_bytes(chunk_size=8192)] == [b"mouth", b"hello"]


async def test_speech_is_sent_with_its_own_type_and_other_answers_with_theirs() -> None:
    [callback] = litellm.callbacks
    assert isinstance(callback, TrueType)
    events = SpeechStream(Speech("text/event-stream", cast(Any, None)))

    assert await callback.async_post_call_response_headers_hook({}, None, events) == {
        "content-type": "text/event-stream"
    }
    assert await callback.async_post_call_response_headers_hook({}, None, response="other", request_headers={}) is None


async def test_another_providers_model_goes_to_litellm() -> None:
    assert await litellm.atranscription(model="openai/whisper-1", file=None) == "LiteLLM serves openai/whisper-1"
    assert await litellm.aspeech(model="openai/tts-1", input="x") == "LiteLLM serves openai/tts-1"


async def test_what_goes_wrong_is_noted_for_the_client() -> None:
    request = begin()
    with pytest.raises(InvalidAudio):
        await litellm.atranscription(model="llmux/ears", file=io.BytesIO(b"broken"))
    assert isinstance(request.error, InvalidAudio)


class Accounts(CustomLogger):
    """What LiteLLM's spend, limits and request log are told of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: asyncio.Queue[tuple[str, str, Any]] = asyncio.Queue()

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        hidden = getattr(response_obj, "_hidden_params", {})
        basis = hidden.get("audio_transcription_duration", kwargs.get("input"))
        await self.calls.put(("success", kwargs["model"], basis))

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        await self.calls.put(("failure", kwargs["model"], None))


@pytest.fixture
async def accounts(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    await GLOBAL_LOGGING_WORKER.clear_queue()  # of what other tests asked
    accounts = Accounts()
    for name in ("_async_success_callback", "_async_failure_callback"):
        monkeypatch.setattr(litellm, name, [accounts])
    return accounts


async def test_a_transcription_is_accounted_for_by_its_seconds(accounts: Accounts) -> None:
    await litellm.atranscription(model="llmux/ears", file=io.BytesIO(b"1234"))
    assert await accounts.calls.get() == ("success", "ears", 2.5)
    assert accounts.calls.empty()


async def test_events_are_accounted_for_by_their_seconds_once_they_were_sent(accounts: Accounts) -> None:
    answer = await litellm.atranscription(model="llmux/ears", file=io.BytesIO(b"1234"), stream="true")
    await anext(answer.body_iterator)
    assert accounts.calls.empty()
    assert [chunk async for chunk in answer.body_iterator] == [b"data: two\n\n"]
    assert await accounts.calls.get() == ("success", "ears", 2.5)
    assert accounts.calls.empty()


async def test_a_transcription_that_fails_is_accounted_for_as_that(accounts: Accounts) -> None:
    with pytest.raises(InvalidAudio):
        await litellm.atranscription(model="llmux/ears", file=io.BytesIO(b"broken"))
    assert await accounts.calls.get() == ("failure", "ears", None)


async def test_speech_is_accounted_for_by_its_text_once_all_of_it_was_sent(accounts: Accounts) -> None:
    answer = await litellm.aspeech(model="llmux/mouth", input="hello", voice="default")
    chunks = await answer.aiter_bytes()
    await anext(chunks)
    assert accounts.calls.empty()
    assert [chunk async for chunk in chunks] == [b"hello"]
    assert await accounts.calls.get() == ("success", "mouth", "hello")
    assert accounts.calls.empty()


async def test_speech_that_its_client_left_is_accounted_for_once(accounts: Accounts) -> None:
    answer = await litellm.aspeech(model="llmux/mouth", input="hello", voice="default")
    async with aclosing(await answer.aiter_bytes()) as chunks:
        await anext(chunks)
    assert await accounts.calls.get() == ("success", "mouth", "hello")
    assert accounts.calls.empty()


async def test_speech_that_nobody_came_to_hear_ends_with_its_request(accounts: Accounts) -> None:
    over: list[Callable[[], None]] = []
    begin().on_end = over.append
    await litellm.aspeech(model="llmux/mouth", input="hello", voice="default")
    for call in over:
        call()
    assert await accounts.calls.get() == ("success", "mouth", "hello")


@pytest.mark.parametrize("wrong", [{"voice": "nobody", "input": "hello"}, {"voice": "default", "input": "stammer"}])
async def test_speech_that_fails_is_accounted_for_as_that(accounts: Accounts, wrong: dict[str, str]) -> None:
    async def hear() -> None:
        answer = await litellm.aspeech(model="llmux/mouth", **wrong)
        assert [chunk async for chunk in await answer.aiter_bytes()]

    with pytest.raises(LlmuxError):
        await hear()
    assert await accounts.calls.get() == ("failure", "mouth", None)
    assert accounts.calls.empty()
