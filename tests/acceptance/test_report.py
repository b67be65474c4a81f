import io
import json

from rich.console import Console

from acceptance.check import Result, Verdict
from acceptance.report import as_json, passed, summary, table


def result(verdict: Verdict, detail: str = "") -> Result:
    return Result("function", "streams as it writes", "Chat", verdict, detail, 1.2345)


def test_one_failure_or_nothing_checked_is_no_pass() -> None:
    assert passed([result("pass"), result("skipped")])
    assert not passed([result("pass"), result("fail")])
    assert not passed([result("skipped")])
    assert not passed([])
    assert summary([result("skipped")]) == "0 passed, 0 failed, 1 skipped: nothing was checked"


def test_the_table_says_what_was_seen_as_it_is() -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table([result("pass"), result("fail", "ends with [DONE]"), result("skipped", "no GPU")]))
    said = console.export_text()
    assert "Chat streams as it writes" in said
    assert "ends with [DONE]" in said
    assert "1 passed, 1 failed, 1 skipped" in said


def test_json_has_all_of_it() -> None:
    said = json.loads(json.dumps(as_json([result("pass"), result("fail", "silence")])))
    assert said["pass"] is False
    assert said["counts"] == {"pass": 1, "fail": 1, "skipped": 0}
    assert said["results"][1] == {
        "phase": "function",
        "check": "streams as it writes",
        "model": "Chat",
        "verdict": "fail",
        "detail": "silence",
        "seconds": 1.234,
    }
