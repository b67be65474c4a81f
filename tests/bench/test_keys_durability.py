"""Keys, budgets and spend survive what may happen to each process, and the bench sees where they do not."""

from pathlib import Path

from bench.keys_durability import Books, Phase, run, table, verdicts


async def test_kills_and_a_stop_lose_no_key_and_no_more_spend_than_was_not_yet_written(tmp_path: Path) -> None:
    phases, audits = await run(tmp_path, requests=60)
    assert [phase.incident for phase in phases] == ["PostgreSQL", "engine", "gateway", "stop"]
    printed = "\n".join(table(phases, audits))
    assert "MISSED" not in printed, printed
    assert all(phase.answered_s and phase.budgets for phase in phases), printed


def phase(incident: str, answered: int) -> Phase:
    return Phase(incident, "sk-key", answered_s=[float(second) for second in range(answered)], incident_s=50.0)


def test_spend_that_the_last_interval_held_may_be_lost_and_no_more() -> None:
    assert list(verdicts(phase("gateway", 100), Books(charged=91, logged=100, wrong=0))) == []
    assert list(verdicts(phase("gateway", 100), Books(charged=90, logged=100, wrong=0))) == [
        "the spend of 10 requests is lost"
    ]


def test_a_stop_loses_nothing() -> None:
    assert list(verdicts(phase("stop", 100), Books(charged=99, logged=100, wrong=0))) == [
        "the spend of 1 requests is lost"
    ]


def test_nothing_is_charged_or_logged_twice() -> None:
    for books in (Books(charged=101, logged=100, wrong=0), Books(charged=100, logged=101, wrong=0)):
        assert list(verdicts(phase("engine", 100), books)) == ["a request was counted twice"]


def test_what_was_acknowledged_is_there_and_soon_more_is() -> None:
    late = phase("engine", 0)
    late.runs_s, late.back_s = 51.0, 56.5
    assert list(verdicts(late, Books(charged=0, logged=0, wrong=1))) == [
        "1 acknowledged keys or budgets are not there",
        "recovered 5.5 s after the engine",
    ]
