"""mission.md's table, and what stands round it, asked of the brute force that the scheduler is held against."""

from dataclasses import replace

import pytest

from bench.rules import Newcomer, Present, evictions, linger_s, overdraft

BUDGET = 16
ASR = Present("asr", 2, 3.0, 4, busy=False, pinned=False, wanted_by=None)
TTS = Present("tts", 1, 1.0, 2, busy=False, pinned=False, wanted_by=None)
LLM = Present("llm", 0, 2.0, 4, busy=False, pinned=False, wanted_by=None)
LARGE = replace(LLM, name="large", bytes=13)


def newcomer(size: int, rank: int = 0, *, ticket: int = 9, overdue: bool = False, begins: bool = False) -> Newcomer:
    return Newcomer("new", rank, 0.0, size, pinned=False, ticket=ticket, overdue=overdue, begins=begins)


def leaving(present: list[Present], *newcomers: Newcomer) -> list[str]:
    free_bytes = BUDGET - sum(model.bytes for model in present)
    return [model.name for model in evictions(present, newcomers, free_bytes)]


@pytest.mark.parametrize(
    ("present", "wanted", "gone"),
    [
        ([ASR, TTS, LLM], newcomer(9), ["llm"]),
        ([ASR, TTS, LLM], newcomer(13), ["llm", "tts", "asr"]),
        ([ASR, TTS], newcomer(4), []),
        ([LARGE], newcomer(4, rank=2), ["large"]),
        ([ASR, LLM], newcomer(9), ["llm"]),
        ([LLM], newcomer(9), []),
    ],
)
def test_the_table(present: list[Present], wanted: Newcomer, gone: list[str]) -> None:
    assert leaving(present, wanted) == gone


def test_within_a_class_the_least_recently_used_goes_first() -> None:
    older = replace(LLM, name="older", used_s=1.0)
    assert leaving([LLM, older, replace(ASR, bytes=8)], newcomer(4)) == ["older"]


def test_busy_pinned_and_wanted_models_stay() -> None:
    for stays in (replace(LLM, busy=True), replace(LLM, pinned=True), replace(LLM, wanted_by=1)):
        assert leaving([stays, replace(LLM, name="other", bytes=12)], newcomer(4)) == ["other"]


def test_an_overdue_newcomer_takes_the_room_of_a_model_that_only_later_ones_want() -> None:
    wanted = replace(LARGE, wanted_by=10)
    assert leaving([wanted], newcomer(13)) == []
    assert leaving([wanted], newcomer(13, overdue=True)) == ["large"]
    assert leaving([wanted], newcomer(13, ticket=11, overdue=True)) == []


def test_a_lower_class_waits_for_a_busy_lower_one_until_it_is_overdue() -> None:
    present = [ASR, replace(LLM, bytes=9, busy=True)]
    assert leaving(present, newcomer(4)) == []
    assert leaving(present, newcomer(4, overdue=True)) == ["asr"]


def test_what_begins_to_load_can_be_waited_for_by_who_comes_after() -> None:
    first = newcomer(9, ticket=1, begins=True)
    assert leaving([ASR], first, newcomer(4, ticket=2)) == []
    assert leaving([ASR], replace(first, begins=False), newcomer(4, ticket=2)) == ["asr"]


def test_while_one_waits_for_a_busy_model_nobody_after_it_evicts() -> None:
    present = [replace(LLM, bytes=10, busy=True), replace(LLM, name="idle")]
    assert leaving(present, newcomer(13, ticket=1), newcomer(4, ticket=2)) == []


def test_waiters_that_are_overdue_are_served_before_a_higher_class() -> None:
    present = [replace(LLM, bytes=6), replace(TTS, busy=True)]
    assert leaving(present, newcomer(12, ticket=1, overdue=True), newcomer(4, 2, ticket=0)) == ["llm"]


def test_whom_nothing_helps_makes_nobody_leave() -> None:
    assert leaving([replace(ASR, pinned=True), LLM], newcomer(13)) == []


def test_an_overdraft_is_paid_by_as_few_as_will_do_or_by_all_that_are_idle() -> None:
    assert [model.name for model in overdraft([ASR, TTS, LLM], 5)] == ["llm", "tts"]
    assert [model.name for model in overdraft([replace(ASR, busy=True), LLM], 5)] == ["llm"]


def test_a_model_that_lingers_stays_but_for_a_higher_class_and_whoever_is_overdue() -> None:
    lingering = replace(LARGE, lingers=True)
    assert leaving([lingering], newcomer(4)) == []
    assert leaving([lingering], newcomer(4, overdue=True)) == ["large"]
    assert leaving([lingering], newcomer(4, rank=2)) == ["large"]


def test_a_model_lingers_for_the_gap_that_pays() -> None:
    assert linger_s([2, 50, 2, 2], 5) == 3
    assert linger_s([50, 50], 5) == linger_s([], 5) == 0
