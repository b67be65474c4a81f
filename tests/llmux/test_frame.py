import json
import re
from typing import Any

import pytest

from llmux.answer import error_body
from llmux.errors import InvalidRequest, LlmuxError, TimedOut, of_refusal
from llmux.frame import last_frames
from vram import refusal

OPENCODE_REPEATS = re.compile(
    r"429|500|502|503|504|524|unavailable|exhausted|too_many_requests|rate.?limit|overloaded|internal.error"
    r"|server.error|terminated|(?:request|response|connection|network|stream|read) time|\btry again (?:later|in\b)",
    re.IGNORECASE,
)
"""What OpenCode 1.18.33 looks for in an error frame's whole text, and then asks again and again."""

REFUSALS: list[refusal.Refused] = [
    refusal.QueueFull(64, 64, 5),
    refusal.NeverFits("qwen3.5-9b-fp8", 17_000_000_000, 16_000_000_000),
    refusal.LoadFailed("gpt-oss-20b", 5),
    refusal.OutOfMemory("gpt-oss-20b", 5),
    refusal.DeviceLost("gpt-oss-20b", "the GPU is lost", 5),
    refusal.DeviceFailed("CUDA error: device-side assert triggered"),
    refusal.Stopping(),
]
ERRORS = [
    *map(of_refusal, REFUSALS),
    TimedOut("chat did not finish within 3600 s"),
    LlmuxError("the model failed while it computed this answer"),
]


def told_by(frames: bytes) -> dict[str, Any]:
    name, data, *end = frames.decode().split("\n")
    assert (name, end) == ("event: error", ["", "data: [DONE]", "", ""])
    return dict(json.loads(data.removeprefix("data: ")))


@pytest.mark.parametrize("error", ERRORS)
def test_no_error_in_a_stream_reads_as_if_asking_again_would_help(error: LlmuxError) -> None:
    frames = last_frames(error.body()["error"])
    assert OPENCODE_REPEATS.search(frames.decode()) is None
    told = told_by(frames)["error"]
    assert told["code"] in (error.code, "failed")
    assert str(error).startswith(told["message"])


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_neither_does_one_of_litellms(status: int) -> None:
    told = error_body(status, b'{"error": {"message": "no answer", "type": null, "code": "500"}}')["error"]
    assert OPENCODE_REPEATS.search(last_frames(told).decode()) is None


def test_each_apis_clients_find_the_error_where_they_look() -> None:
    error = InvalidRequest("seed must be a whole number", param="seed")
    frame = told_by(last_frames(error.body()["error"]))
    fields = {"message": "seed must be a whole number", "param": "seed", "code": "invalid_request_error"}
    assert frame["error"] == {**fields, "type": "invalid_request_error"}  # chat completions, and Anthropic's messages
    assert frame == {**fields, "type": "error", "error": frame["error"]}  # responses
