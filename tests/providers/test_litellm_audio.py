import io
from collections.abc import AsyncGenerator
from typing import Any, cast

import litellm
import pytest
from litellm import CustomLLM

from llmux.errors import InvalidAudio
from llmux.request import begin
from providers import litellm_audio
from providers.litellm_audio import SpeechStream, Transcription, TranscriptionEvents
from providers.speech import Speech, SpeechProvider
from providers.transcript import Transcript
from providers.transcription import TranscriptionProvider


class Ears:
    async def transcribe(self, physical: str, file_bytes: bytes, options: dict[str, Any]) -> Transcript:
        if file_bytes == b"broken":
            raise InvalidAudio("not a sound")
        if options.get("response_format") == "text":
            return Transcript(f"{physical} heard {len(file_bytes)} bytes\n", "text/plain; charset=utf-8")
        if options.get("stream") == "true":
            return Transcript(self._events(), "text/event-stream")
        return Transcript({"text": "heard"}, "application/json")

    async def _events(self) -> AsyncGenerator[bytes, None]:
        yield b"data: one\n\n"
        yield b"data: two\n\n"


class Mouth:
    async def speak(self, physical: str, request: dict[str, Any]) -> Speech:
        async def chunks() -> AsyncGenerator[bytes, None]:
            yield physical.encode()
            yield request["input"].encode()

        return Speech("audio/mpeg", chunks())


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def elsewhere(*_: Any, **kwargs: Any) -> str:
        return f"LiteLLM serves {kwargs['model']}"

    monkeypatch.setattr(litellm, "atranscription", elsewhere)
    monkeypatch.setattr(litellm, "aspeech", elsewhere)
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


async def test_another_providers_model_goes_to_litellm() -> None:
    assert await litellm.atranscription(model="openai/whisper-1", file=None) == "LiteLLM serves openai/whisper-1"
    assert await litellm.aspeech(model="openai/tts-1", input="x") == "LiteLLM serves openai/tts-1"


async def test_what_goes_wrong_is_noted_for_the_client() -> None:
    request = begin()
    with pytest.raises(InvalidAudio):
        await litellm.atranscription(model="llmux/ears", file=io.BytesIO(b"broken"))
    assert isinstance(request.error, InvalidAudio)
