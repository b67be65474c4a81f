import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from llmux.answer import Answer, presentable
from llmux.errors import QueueFull, RequestTooLarge
from llmux.frame import last_frames
from llmux.request import current


def replying(status: int, body: bytes, content_type: str = "application/json", noted: Any = None) -> Answer:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current().error = noted
        headers = [(b"content-type", content_type.encode()), (b"retry-after", b"9"), (b"x-litellm-secret", b"x")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        half = len(body) // 2 if status >= 400 else len(body)
        await send({"type": "http.response.body", "body": body[:half], "more_body": True})
        await send({"type": "http.response.body", "body": body[half:]})

    return Answer(app)


async def get(app: Answer) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        return await client.get("/v1/models")


async def test_a_good_answer_passes_as_it_is() -> None:
    answer = await get(replying(200, b'{"error": null}'))
    assert (answer.status_code, answer.content) == (200, b'{"error": null}')


async def test_a_noted_error_is_told_as_it_is_with_its_own_status() -> None:
    answer = await get(replying(500, b"whatever LiteLLM made of it", noted=QueueFull("full", retry_after_s=7)))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["error"] == {"message": "full", "type": "queue_full", "param": None, "code": "queue_full"}


async def test_an_error_raised_before_any_answer_is_an_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RequestTooLarge("at most 1 MB")

    answer = await get(Answer(app))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("status", "body", "message", "kind"),
    [
        (401, {"error": {"message": "no", "type": "auth_error", "code": "401"}}, "no", "authentication_error"),
        (400, {"detail": "not JSON"}, "not JSON", "invalid_request_error"),
        (400, {"detail": {"error": "model is missing"}}, "model is missing", "invalid_request_error"),
        (429, {"error": {"message": "litellm.RateLimitError: slow", "type": None}}, "slow", "rate_limit_error"),
        (500, {"error": {"message": "in /root/x.py"}}, "the gateway failed; its log says why", "server_error"),
        (404, "Not Found", "Not Found", "not_found_error"),
        (502, [1], "Bad Gateway", "server_error"),
    ],
)
async def test_an_error_of_litellms_becomes_openai_shaped(status: int, body: Any, message: str, kind: str) -> None:
    answer = await get(replying(status, json.dumps(body).encode()))
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == message
    assert answer.json()["error"]["type"] == kind
    assert "x-litellm-secret" not in answer.headers


async def test_a_failure_inside_litellm_leaves_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await get(replying(500, b"what was asked"))
    assert "GET /v1/models failed inside LiteLLM with 500" in caplog.messages[0]
    assert "what was asked" not in caplog.text


async def test_a_body_that_litellm_rejects_is_not_a_matter_of_the_key() -> None:
    said = "Authentication Error, Rejected Request: api_base is not allowed in request body. Clientside passthrough x"
    answer = await get(replying(401, json.dumps({"error": {"message": said, "type": "auth_error"}}).encode()))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "api_base is not allowed in request body."
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_fastapis_validation_error_names_the_field_and_is_a_400() -> None:
    detail = [{"loc": ["body", "file"], "msg": "Field required", "input": "private"}]
    answer = await get(replying(422, json.dumps({"detail": detail}).encode()))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "file: Field required"
    assert answer.json()["error"]["param"] == "file"


async def test_an_error_in_a_stream_is_cleaned_and_the_last_that_is_said() -> None:
    frame = b'data: {"error": {"message": "boom in /usr/lib/python3/x.py", "code": "500"}}\n\ndata: [DONE]\n\n'
    answer = await get(replying(200, frame, "text/event-stream"))
    told = {"message": "boom in [path]", "type": "invalid_request_error", "param": None, "code": None}
    assert answer.content == last_frames(told)


@pytest.mark.parametrize("frame", [b'data: {"error": {}}\n\n', b"event: error\ndata: litellm.APIError: x\n\n"])
async def test_a_noted_error_in_a_stream_is_told_as_it_is_whatever_the_api(frame: bytes) -> None:
    error = QueueFull("full")
    answer = await get(replying(200, frame, "text/event-stream", noted=error))
    assert answer.content == last_frames(error.body()["error"])


@pytest.mark.parametrize(
    ("litellm", "shown"),
    [
        ("litellm.BadRequestError: LlmuxException - bad seed", "bad seed"),
        ("no audio\n\nLiteLLM: model group 'x' failed with the error above.", "no audio"),
        ("bad. Received Model Group=x\nAvailable Model Group Fallbacks=None", "bad."),
        ("key sk-abcdefgh12345 in /home/me/state/key and C:\\Users\\me\\key", "key [key] in [path] and [path]"),
        ("/chat/completions: Missing 'messages'.", "/chat/completions: Missing 'messages'."),
        ("", "the request failed"),
    ],
)
def test_a_message_loses_what_is_not_for_the_client(litellm: str, shown: str) -> None:
    assert presentable(litellm) == shown


async def test_two_requests_do_not_share_an_error() -> None:
    first, second = await asyncio.gather(
        get(replying(500, b"{}", noted=QueueFull("one"))), get(replying(400, b'{"detail": "two"}'))
    )
    assert first.json()["error"]["message"] == "one"
    assert second.json()["error"]["message"] == "two"
