from typing import Any

import httpx
import pytest

from acceptance.check import Failed
from acceptance.refusals import judge_refusal

ERROR = {"message": "no", "type": "invalid_request_error", "param": None, "code": "wrong_task"}


def test_a_refusal_as_clients_know_it_passes() -> None:
    assert judge_refusal(httpx.Response(400, json={"error": ERROR}), 400, "wrong_task") == "no"


@pytest.mark.parametrize(
    ("status", "body", "wrong"),
    [
        (200, {"json": {"error": ERROR}}, "the status is 200"),
        (400, {"json": {"error": {**ERROR, "code": None}}}, "the code is None"),
        (400, {"json": {"error": "no"}}, "not OpenAI's object"),
        (400, {"json": ["no"]}, "not OpenAI's object"),
        (400, {"text": "no"}, "not OpenAI's object"),
        (400, {"text": "Traceback (most recent call last):"}, "shows a traceback"),
    ],
)
def test_any_other_is_a_failure(status: int, body: dict[str, Any], wrong: str) -> None:
    with pytest.raises(Failed, match=wrong):
        judge_refusal(httpx.Response(status, **body), 400, "wrong_task")
