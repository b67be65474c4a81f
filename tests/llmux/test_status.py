import time
from typing import Any

import pytest
from rich.console import Console

from llmux.status import report, table, watch
from tests.snapshots import state
from vram.snapshot import Snapshot, Wait


def snapshot(**more: object) -> Snapshot:
    queue = (Wait(1, "load", 40, 12.34), Wait(3, "load", 40, 12.34))
    values: dict[str, object] = {
        "budget_bytes": 16_000_000_000,
        "charged_bytes": 13_000_000_000,
        "unreturned_bytes": 200_000_000,
        "others_bytes": 500_000_000,
        "available_bytes": 2_300_000_000,
        "models": (
            state("chat", phase="resident", leases=2, last_used_s_ago=30.0, measured_bytes=4_100_000_000),
            state("ears", task="asr", phase="loading", bytes=9_000_000_000, waiting=2, load_percent=40, queue=queue),
            state("voice", task="tts", phase="resident", pinned=True, last_used_s_ago=0.5),
            state("lost", phase="unloading", stuck=True),
            state("never"),
        ),
        **more,
    }
    return Snapshot(**values)  # type: ignore[arg-type]


REPORT = report(snapshot())


def shown(vram: Any, width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table(vram))
    return capture.get()


def test_the_report_gives_the_device_in_gb() -> None:
    device = {name: value for name, value in REPORT.items() if name != "models"}
    assert device == {
        "budget_gb": 16.0,
        "used_gb": 13.0,
        "unreturned_gb": 0.2,
        "foreign_gb": 0.5,
        "free_gb": 2.3,
        "device_error": None,
        "waiting": 2,
    }


def test_the_report_gives_each_model_with_prediction_measurement_and_queue() -> None:
    assert list(REPORT["models"]) == ["chat", "ears", "voice", "lost", "never"]
    assert REPORT["models"]["chat"] == {
        "type": "llm",
        "state": "busy",
        "load_percent": None,
        "leases": 2,
        "pinned": False,
        "used_gb": 4.0,
        "predicted_gb": 3.8,
        "measured_gb": 4.1,
        "last_used_s_ago": 30.0,
        "waiting": 0,
        "queue": [],
    }
    assert REPORT["models"]["ears"]["queue"] == [
        {"position": 1, "waiting_for": "load", "load_percent": 40, "expected_s": 12.3},
        {"position": 3, "waiting_for": "load", "load_percent": 40, "expected_s": 12.3},
    ]


@pytest.mark.parametrize(
    ("model", "expected"),
    [("chat", "busy"), ("ears", "loading"), ("voice", "resident"), ("lost", "stuck"), ("never", "absent")],
)
def test_a_model_is_in_one_state(model: str, expected: str) -> None:
    assert REPORT["models"][model]["state"] == expected


def test_what_is_not_there_takes_nothing_and_was_never_used() -> None:
    never = REPORT["models"]["never"]
    assert (never["used_gb"], never["predicted_gb"], never["measured_gb"], never["last_used_s_ago"]) == (
        0.0,
        3.8,
        None,
        None,
    )


def test_the_table_fits_a_terminal_and_says_it_in_words() -> None:
    lines = [" ".join(line.split()) for line in shown(REPORT).splitlines()]
    assert "chat llm busy 2 4.00 3.80 4.10 30 s" in lines
    assert "ears asr loading 40 % 9.00 3.80 - never" in lines
    assert "voice tts resident, pinned 4.00 3.80 - 0 s" in lines
    assert "never llm absent - 3.80 - never" in lines
    assert "ears: #1, #3 in the queue wait for its load, about 12 s" in lines
    assert "budget 16.00 GB: models 13.00, unreturned 0.20, other processes 0.50, free 2.30" in lines


@pytest.mark.parametrize(("seconds", "words"), [(59.4, "59 s"), (600.0, "10 min"), (7200.0, "2 h")])
def test_long_ago_is_told_roughly(seconds: float, words: str) -> None:
    assert f"  {words}" in shown(report(snapshot(models=(state("chat", last_used_s_ago=seconds),))))


def test_a_device_that_cannot_be_read_is_said_to_be_so() -> None:
    assert "cannot be read: the GPU is lost" in shown(report(snapshot(device_error="the GPU is lost")))


def test_a_watched_table_is_drawn_anew_until_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[float] = []

    def sleep(length: float) -> None:
        seconds.append(length)
        if len(seconds) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    reports = iter([report(snapshot(models=(state(name),))) for name in ("first", "second", "third")])
    console = Console(width=80, force_terminal=True)
    with console.capture() as capture:
        watch(lambda: next(reports), console)
    assert "third" in capture.get()
    assert next(reports, None) is None
