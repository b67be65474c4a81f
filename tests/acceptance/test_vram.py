from typing import Any

import pytest

from acceptance.check import Failed
from acceptance.eviction import Scene, Sized
from acceptance.vram import judge_budget, judge_eviction, judge_loads, resident, sizes


def vram(**used_gb: float) -> dict[str, Any]:
    models = {
        name: {"type": "llm", "state": "resident" if used else "absent", "used_gb": used, "predicted_gb": 9.0}
        for name, used in used_gb.items()
    }
    return {"budget_gb": 16.0, "models": {name: {**model, "measured_gb": None} for name, model in models.items()}}


def test_a_size_is_what_was_measured_or_else_predicted() -> None:
    report = vram(a=4, b=0, c=0)
    report["models"]["a"]["measured_gb"] = 9.3
    assert sizes(report, ["a", "b"]) == [Sized("a", "llm", 9.3), Sized("b", "llm", 9.0)]


def test_resident_is_who_serves_and_who_could() -> None:
    report = vram(a=4, b=0, c=3)
    report["models"]["c"]["state"] = "busy"
    assert resident(report) == ["a", "c"]


def test_what_is_loaded_stays_within_the_budget_and_this_within_the_configured_one() -> None:
    assert judge_budget(vram(a=9, b=6.9), 16_000_000_000) == "15.90 of 16.00 GB loaded"
    assert judge_budget(vram(a=9), None)
    with pytest.raises(Failed, match=r"18.000 GB are loaded, with a budget of 16.0 GB"):
        judge_budget(vram(a=9, b=9), None)
    with pytest.raises(Failed, match="and the configuration's 12 GB"):
        judge_budget(vram(a=9), 12_000_000_000)


SHOWN = Scene(
    [Sized("ears", "asr", 4), Sized("voice", "tts", 2), Sized("small", "llm", 4)],
    Sized("large", "llm", 9),
    frozenset({2}),
)


def test_those_who_should_leave_do_and_nobody_else() -> None:
    assert judge_eviction(SHOWN, ["ears", "voice", "large"]).endswith("small leaves")
    for after, wrong in [
        (["ears", "voice", "small", "large"], "small should have left"),
        (["ears", "large"], "voice should have stayed"),
        (["ears", "voice"], "large was asked for and is not loaded"),
    ]:
        with pytest.raises(Failed, match=wrong):
            judge_eviction(SHOWN, after)


def test_loads_are_counted_by_model() -> None:
    judge_loads({"a": 1}, {"a": 2, "b": 0}, {"a": 1})
    judge_loads({"a": 1}, {"a": 1}, {})
    for after in ({"a": 3}, {"a": 2, "b": 1}, {"a": 1}):
        with pytest.raises(Failed):
            judge_loads({"a": 1}, after, {"a": 1})
