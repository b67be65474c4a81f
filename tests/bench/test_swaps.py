"""The plan from a seed, what many stays come to, which goals are missed, and going on after a run."""

from itertools import islice, pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bench.swaps import Progress, Stay, missed, resume, rows, steps

GB = 10**9
MODELS = ["asr", "tts", "small", "large"]


def stay(model: str = "small", *, first: bool = False, predicted: int = GB, taken: int | None = GB) -> Stay:
    return Stay(model, first, predicted, taken, taken, 2.0, 3_000_000, 2_000_000)


@given(st.integers(), st.integers(2, 6))
def test_a_seed_always_gives_the_same_plan_and_nobody_comes_twice_in_a_row(seed: int, count: int) -> None:
    models = [str(number) for number in range(count)]
    plan = list(islice(steps(models, seed), 50))
    assert plan == list(islice(steps(models, seed), 50))
    for before, after in pairwise(plan):
        assert len(set(after)) == len(after)
        assert not set(before) & set(after) or len(before) == count


def test_a_plan_asks_for_everybody_and_now_and_then_for_two_at_once() -> None:
    plan = list(islice(steps(MODELS, 1), 200))
    assert {model for step in plan for model in step} == set(MODELS)
    assert 20 <= sum(len(step) == 2 for step in plan) <= 60


def test_a_model_that_is_alone_is_asked_for_again_and_again() -> None:
    assert list(islice(steps(["one"], 1), 3)) == [("one",)] * 3


def test_the_error_of_a_prediction_is_a_share_of_what_was_taken() -> None:
    assert stay(predicted=3 * GB, taken=2 * GB).error == 0.5
    assert stay(predicted=GB, taken=2 * GB).error == -0.5
    assert stay(taken=None).error is None


def test_the_first_load_and_the_later_ones_are_kept_apart() -> None:
    [row] = rows([stay(first=True, predicted=2 * GB), stay(predicted=GB * 99 // 100), stay(predicted=GB * 103 // 100)])
    assert row.first_error == 1.0
    assert row.worst_error == 0.03
    assert (row.loads, row.taken_bytes, row.load_s) == (3, GB, 2.0)
    assert (row.left_card_bytes, row.left_process_bytes) == (3_000_000, 2_000_000)


def test_what_was_not_measured_is_left_out() -> None:
    [row] = rows([Stay("small", True, GB, None, None, 2.0), stay()])
    assert (row.first_error, row.taken_bytes, row.left_card_bytes) == (None, GB, 3_000_000)


def test_nothing_is_missed_when_all_went_well() -> None:
    progress = Progress({}, stays=[stay(first=True, predicted=2 * GB), stay(predicted=GB * 105 // 100)])
    assert missed(progress, 2) == []


def test_each_goal_that_is_missed_is_named() -> None:
    progress = Progress(
        {},
        stays=[stay(first=True), stay(predicted=GB * 94 // 100), stay("once", first=True)],
        out_of_memory=2,
        refusals=["queue_full: 9 wait"],
        failures=["large: ValueError: no"],
    )
    assert missed(progress, 3) == [
        "2 times out of memory, the goal is 0",
        "refused: queue_full: 9 wait",
        "failed: large: ValueError: no",
        "small: predicted -6.0% from the second load on, the goal is 5 %",
        "once: never measured a second time",
    ]


def test_a_run_that_is_not_over_says_how_to_go_on() -> None:
    assert missed(Progress({}, stays=[stay(first=True)]), 2) == ["1 of 2 swaps: run it again to go on"]


def test_the_next_run_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    progress = Progress({"seed": 1}, steps=7, stays=[stay()], evictions={"room": 3}, refusals=["no"])
    progress.save(tmp_path / "progress.json")
    assert resume(tmp_path / "progress.json", {"seed": 1}) == progress


def test_another_seed_another_card_or_a_damaged_file_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert resume(path, {"seed": 1}) == Progress({"seed": 1})
    Progress({"seed": 1}, steps=7).save(path)
    assert resume(path, {"seed": 2}) == Progress({"seed": 2})
    path.write_text("{")
    assert resume(path, {"seed": 1}) == Progress({"seed": 1})
