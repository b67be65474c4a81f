import asyncio
import logging

import pytest

from llmux.errors import InvalidRequest
from llmux.request import begin, current, errors_noted
from vram.snapshot import Wait


async def test_an_error_raised_in_a_child_task_is_known_to_the_request() -> None:
    request = begin()

    async def provider() -> None:
        with errors_noted():
            raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        await asyncio.create_task(provider())
    assert request.error is not None
    assert str(request.error) == "no"


async def test_an_unforeseen_error_is_logged_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    request = begin()
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="the prompt"), errors_noted():
        raise ValueError("the prompt was: secret")
    assert "ValueError in test_request.py" in caplog.messages[0]
    assert "secret" not in caplog.messages[0]
    assert request.error is not None
    assert "secret" not in str(request.error)


async def test_a_lease_asked_for_in_a_child_task_is_told_to_whoever_listens() -> None:
    heard: list[Wait | None] = []
    begin().on_lease = lambda wait, give_back: heard.append(wait())

    async def provider() -> None:
        current().on_lease(lambda: Wait(1, "queue", None, None), lambda: None)

    await asyncio.create_task(provider())
    assert heard == [Wait(1, "queue", None, None)]


async def test_a_lease_that_nobody_listens_for_is_no_matter() -> None:
    begin().on_lease(lambda: None, lambda: None)


def test_outside_of_a_request_nothing_is_kept() -> None:
    with pytest.raises(InvalidRequest), errors_noted():
        raise InvalidRequest("no")
    assert current().error is None
