from typing import Any

import pytest

from acceptance.check import Failed
from acceptance.performance import judge_report

CHAT: dict[str, Any] = {"model": "m", "gpu_seconds": 0.5, "cpu_seconds": 3.0, "speedup": 6.0, "pass": True}
VOICE: dict[str, Any] = {
    "model": "m",
    "synthesis_seconds": 2.0,
    "audio_duration_seconds": 5.0,
    "realtime_factor": 2.5,
    "pass": True,
}


def test_a_model_that_is_fast_enough_passes_with_its_figures() -> None:
    assert judge_report(CHAT, "m") == "6.0 times the CPU: 0.5 s against 3.0 s"
    assert judge_report({**CHAT, "speedup": 5.0}, "m")
    assert judge_report(VOICE, "m") == "2.5 times real time: 5.0 s in 2.0 s"


@pytest.mark.parametrize(
    "report",
    [
        {**CHAT, "speedup": 4.99},
        {**CHAT, "pass": False},
        {**CHAT, "model": "another"},
        {**VOICE, "realtime_factor": 1.0},
        {**VOICE, "pass": False},
    ],
)
def test_one_that_is_not_or_is_said_not_to_be_fails(report: dict[str, Any]) -> None:
    with pytest.raises(Failed):
        judge_report(report, "m")
