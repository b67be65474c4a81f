import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from llmux.answer import Answer
from llmux.errors import LlmuxError, QueueFull
from llmux.frame import last_frames
from llmux.intake import Intake
from llmux.request import current
from llmux.waiting import COMMENT_S, SILENCE_S, Waiting, comment
from vram.snapshot import Wait

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
IN_LINE = Wait(2, "queue", None, None)
LOADING = Wait(1, "load", 40, 12.4)


class Clock:
    """Stands for asyncio.sleep: time goes by when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        wake = asyncio.Event()
        self._sleepers.append((self.now_s + seconds, wake))
        await wake.wait()

    async def passes(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while due := sorted((sleeper for sleeper in self._sleepers if sleeper[0] <= end_s), key=lambda each: each[0]):
            self._sleepers.remove(due[0])
            self.now_s = due[0][0]
            due[0][1].set()
            await settled()
        self.now_s = end_s


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Model:
    """LiteLLM with a model behind it, which the test makes ready. wait: where the request stands."""

    def __init__(self, streams: bool = True) -> None:
        self.wait: Wait | None = IN_LINE
        self.silent = False
        self.left = False
        self.given_back = 0
        self._streams = streams
        self._answer: asyncio.Queue[Message | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        request = current()
        request.streams = self._streams
        request.silent = self.silent
        request.on_lease(lambda: self.wait, self._give_back)
        try:
            while (message := await self._answer.get()) is not None:
                request.error = message.pop("noted", request.error)
                request.silent = message.pop("silent", request.silent)
                await send(message)
        except asyncio.CancelledError:
            self.left = True
            raise

    def _give_back(self) -> None:
        self.given_back += 1

    def answers(self, status: int, *bodies: bytes, noted: LlmuxError | None = None) -> None:
        self.wait = None
        kind = b"text/event-stream" if status == 200 else b"application/json"
        headers = [(b"content-type", kind), (b"x-own", b"1")]
        self._answer.put_nowait({"type": "http.response.start", "status": status, "headers": headers, "noted": noted})
        for body in bodies:
            self._answer.put_nowait({"type": "http.response.body", "body": body, "more_body": True})
        self._answer.put_nowait({"type": "http.response.body", "body": b""})
        self._answer.put_nowait(None)


class Client:
    """One request through the layers, as they stand in the gateway."""

    def __init__(self, model: Model, clock: Clock) -> None:
        self.messages: list[Message] = []
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": b"{}"})
        app = Answer(Intake(Waiting(model, sleep=clock.sleep), body_bytes=100))
        self.request = asyncio.create_task(app(SCOPE, self._incoming.get, self._send))

    async def _send(self, message: Message) -> None:
        self.messages.append(message)

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int | None:
        return next((message["status"] for message in self.messages if "status" in message), None)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


@pytest.fixture
def clock() -> Clock:
    return Clock()


Ask = Callable[[Model], Awaitable[Client]]


@pytest.fixture
async def ask(clock: Clock) -> AsyncIterator[Ask]:
    clients: list[Client] = []

    async def begin(model: Model) -> Client:
        clients.append(Client(model, clock))
        await settled()
        return clients[-1]

    yield begin
    for client in clients:
        client.request.cancel()
    await asyncio.gather(*(client.request for client in clients), return_exceptions=True)


async def test_an_answer_that_comes_in_time_passes_as_it_is(ask: Ask, clock: Clock) -> None:
    model = Model()
    client = await ask(model)
    await clock.passes(SILENCE_S - 0.1)
    model.answers(200, b"data: hello\n\n")
    await client.request
    await clock.passes(60)
    assert (client.messages[0]["headers"][1], client.body) == ((b"x-own", b"1"), b"data: hello\n\n")


async def test_a_refusal_within_the_silence_keeps_its_status(ask: Ask, clock: Clock) -> None:
    model = Model()
    client = await ask(model)
    await clock.passes(SILENCE_S - 0.1)
    model.answers(503, b'{"error": {"message": "full", "type": "queue_full"}}')
    await client.request
    assert client.status == 503


async def test_a_stream_that_waits_is_told_where_it_stands_until_its_answer_flows_on(ask: Ask, clock: Clock) -> None:
    model = Model()
    client = await ask(model)
    await clock.passes(SILENCE_S)
    assert client.status == 200
    assert dict(client.messages[0]["headers"])[b"content-type"].startswith(b"text/event-stream")
    model.wait = LOADING
    await clock.passes(COMMENT_S)
    model.answers(200, b"data: hel", b"lo\n\n")
    await client.request
    await clock.passes(60)
    assert client.body == comment(IN_LINE) + comment(LOADING) + b"data: hello\n\n"
    assert [message["type"] for message in client.messages].count("http.response.start") == 1


async def test_comments_go_on_while_a_model_that_was_waited_for_reads_its_prompt(ask: Ask, clock: Clock) -> None:
    model = Model()
    client = await ask(model)
    await clock.passes(SILENCE_S)
    model.wait = None
    await clock.passes(2 * COMMENT_S)
    assert client.body == comment(IN_LINE) + 2 * comment(None)


async def test_a_model_that_is_only_slow_to_begin_gets_no_answer_before_its_own(ask: Ask, clock: Clock) -> None:
    model = Model()
    client = await ask(model)
    model.wait = None
    await clock.passes(600)
    assert client.messages == []


async def test_what_a_request_leased_is_given_back_when_it_is_over_and_no_sooner(ask: Ask, clock: Clock) -> None:
    model = Model(streams=False)
    client = await ask(model)
    await clock.passes(600)
    assert model.given_back == 0
    model.answers(200, b"hello")
    await client.request
    assert model.given_back == 1


async def test_an_answer_that_is_no_stream_is_left_alone(ask: Ask, clock: Clock) -> None:
    model = Model(streams=False)
    client = await ask(model)
    await clock.passes(600)
    assert client.messages == []
    model.answers(503, b"{}")
    await client.request
    assert client.status == 503


async def test_an_error_after_the_beginning_is_a_frame_and_the_end(ask: Ask, clock: Clock) -> None:
    model = Model()
    client = await ask(model)
    await clock.passes(SILENCE_S)
    model.answers(503, b'{"error": {"message": "litellm.APIError: ', b'no memory", "type": "load_failed"}}')
    await client.request
    name, data, *end = client.body.removeprefix(comment(IN_LINE)).decode().split("\n")
    assert name == "event: error"
    error = {"message": "no memory", "type": "invalid_request_error", "param": None, "code": "load_failed"}
    assert json.loads(data.removeprefix("data: ")) == {**error, "type": "error", "error": error}
    assert end == ["", "data: [DONE]", "", ""]
    assert client.messages[-1].get("more_body", False) is False


async def test_a_client_that_leaves_while_it_waits_takes_its_request_along(ask: Ask, clock: Clock) -> None:
    model = Model()
    client = await ask(model)
    await clock.passes(SILENCE_S)
    client.leave()
    await client.request
    said = len(client.messages)
    await clock.passes(600)
    assert (model.left, model.given_back) == (True, 1)
    assert len(client.messages) == said


PAGE = (b"access-control-allow-origin", b"https://page.example")


class Hasty(Model):
    """LiteLLM, of other APIs than chat completions: it begins to answer before its model does."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = True
        headers = [(b"content-type", b"text/event-stream"), (b"x-own", b"1"), PAGE]
        self._answer.put_nowait({"type": "http.response.start", "status": 200, "headers": headers})
        self.says(b"event: message_start\n\n")

    def says(self, body: bytes, **more: Any) -> None:
        self._answer.put_nowait({"type": "http.response.body", "body": body, "more_body": True, **more})

    def ends(self) -> None:
        self._answer.put_nowait({"type": "http.response.body", "body": b""})
        self._answer.put_nowait(None)


FULL = QueueFull("full", retry_after_s=7)


async def test_what_litellm_says_before_the_model_does_is_held_back(ask: Ask, clock: Clock) -> None:
    model = Hasty()
    client = await ask(model)
    assert client.messages == []
    model.says(b"data: hello\n\n", silent=False)
    await settled()
    assert client.body == b"event: message_start\n\ndata: hello\n\n"
    assert (b"x-own", b"1") in client.messages[0]["headers"]
    model.says(b"data: more\n\n")
    model.ends()
    await client.request
    assert client.body.endswith(b"data: more\n\n")


async def test_an_error_before_the_model_says_a_word_keeps_its_status(ask: Ask, clock: Clock) -> None:
    model = Hasty()
    client = await ask(model)
    model.says(b"event: error\ndata: litellm.APIError\n\n", noted=FULL)
    model.says(b"data: [DONE]\n\n")
    model.ends()
    await client.request
    assert client.status == 503
    assert (b"Retry-After", b"7") in client.messages[0]["headers"]
    assert PAGE in client.messages[0]["headers"], "a page must be able to read it"
    assert json.loads(client.body) == FULL.body()


async def test_an_error_before_litellm_begins_keeps_its_status_too(ask: Ask, clock: Clock) -> None:
    model = Model()
    model.silent = True
    client = await ask(model)
    model.answers(200, b"event: error\n\n", noted=FULL)
    await client.request
    assert (client.status, json.loads(client.body)) == (503, FULL.body())


async def test_comments_are_made_while_litellm_has_begun_already(ask: Ask, clock: Clock) -> None:
    model = Hasty()
    client = await ask(model)
    await clock.passes(SILENCE_S)
    assert client.body == comment(IN_LINE)
    model.says(b"data: hello\n\n", silent=False)
    model.ends()
    await client.request
    assert client.body == comment(IN_LINE) + b"event: message_start\n\ndata: hello\n\n"
    assert [message["type"] for message in client.messages].count("http.response.start") == 1


async def test_an_error_after_the_comments_is_a_frame_whoever_began(ask: Ask, clock: Clock) -> None:
    model = Hasty()
    client = await ask(model)
    await clock.passes(SILENCE_S)
    model.says(b"event: error\n\n", noted=FULL)
    model.ends()
    await client.request
    assert client.body == comment(IN_LINE) + last_frames(FULL.body()["error"])


@pytest.mark.parametrize(
    ("wait", "said"),
    [
        (Wait(3, "queue", None, None), ": waiting, position 3\n\n"),
        (Wait(1, "eviction", None, 0.2), ": waiting, position 1, making room, about 1 s\n\n"),
        (Wait(2, "load", 40, None), ": waiting, position 2, loading 40 %\n\n"),
        (Wait(1, "load", None, 30.4), ": waiting, position 1, loading, about 30 s\n\n"),
        (None, ": the model is at work\n\n"),
    ],
)
def test_a_comment_says_where_a_request_stands(wait: Any, said: str) -> None:
    assert comment(wait).decode() == said
