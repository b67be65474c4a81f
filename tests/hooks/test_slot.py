from collections.abc import Callable
from typing import Any

import pytest
from litellm.proxy.hooks.parallel_request_limiter_v3 import RequestRateLimiterStash, get_request_stash
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hooks.slot import Slot

HTTP: Scope = {"type": "http"}


async def free() -> None:
    """Finds the slot where LiteLLM does."""
    stash = get_request_stash()
    assert stash is not None, "LiteLLM would not know of which request"
    stash.parallel_slot = None


class Taker:
    """An application that takes a slot, sends parts of an answer, and may fail."""

    def __init__(self, parts: list[bytes], error: BaseException | None = None) -> None:
        self.stash: RequestRateLimiterStash | None = None
        self._parts = parts
        self._error = error

    @property
    def holds(self) -> bool:
        assert self.stash is not None
        return self.stash.parallel_slot is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.stash = get_request_stash()
        assert self.stash is not None
        self.stash.parallel_slot = {"slot_id": "1", "counter_keys": ["a key"]}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if self._error is not None:
            raise self._error
        await send({"type": "http.response.body"})


async def run(app: ASGIApp, look: Callable[[Message], Any] = lambda _: None) -> list[Any]:
    """What look sees at each message."""
    seen: list[Any] = []

    async def send(message: Message) -> None:
        seen.append(look(message))

    async def receive() -> Message:
        raise AssertionError

    await app(HTTP, receive, send)
    return seen


async def test_a_slot_is_held_until_the_last_bytes_and_free_when_they_go_out() -> None:
    taker = Taker([b"one", b"two"])
    assert await run(Slot(taker, free=free), lambda _: taker.holds) == [True, True, True, False]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
async def test_a_slot_is_free_however_its_request_ends(error: BaseException) -> None:
    taker = Taker([b"one"], error)
    with pytest.raises(type(error)):
        await run(Slot(taker, free=free))
    assert not taker.holds


async def test_what_is_no_request_passes() -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    await Slot(app, free=free)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert passed == ["lifespan"]
