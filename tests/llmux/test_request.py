import asyncio
import logging

import pytest

from llmux.errors import InvalidRequest
from llmux.request import begin, current, errors_noted


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


def test_outside_of_a_request_nothing_is_kept() -> None:
    with pytest.raises(InvalidRequest), errors_noted():
        raise InvalidRequest("no")
    assert current().error is None
