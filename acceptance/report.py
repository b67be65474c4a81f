"""How it went: a table for people, JSON for programs, and the exit code."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from acceptance.check import Result, Verdict

_STYLES: Mapping[Verdict, str] = {"pass": "green", "fail": "bold red", "skipped": "yellow"}


def passed(results: Sequence[Result]) -> bool:
    """Whether nothing failed, and something was checked at all."""
    verdicts = {result.verdict for result in results}
    return "fail" not in verdicts and "pass" in verdicts


def summary(results: Sequence[Result]) -> str:
    counts = Counter(result.verdict for result in results)
    said = f"{counts['pass']} passed, {counts['fail']} failed, {counts['skipped']} skipped"
    return said if counts["pass"] or counts["fail"] else f"{said}: nothing was checked"


def table(results: Sequence[Result]) -> Group:
    """A row for each check, in the order in which they were made."""
    rows = Table(
        Column("phase", no_wrap=True),
        "what",
        Column("", no_wrap=True),
        Column("s", justify="right"),
        "seen, or why not",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for result in results:
        what = f"{result.model} {result.check}" if result.model else result.check
        style = _STYLES[result.verdict]
        seconds = "" if result.verdict == "skipped" else f"{result.seconds:.1f}"
        rows.add_row(result.phase, what, Text(result.verdict, style), seconds, escape(result.detail))
    return Group(rows, Text(summary(results), _STYLES["pass" if passed(results) else "fail"]))


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """{"pass", "counts", "results"}, of which each has phase, check, model, verdict, detail and seconds."""
    return {
        "pass": passed(results),
        "counts": {verdict: sum(result.verdict == verdict for result in results) for verdict in _STYLES},
        "results": [{**asdict(result), "seconds": round(result.seconds, 3)} for result in results],
    }
