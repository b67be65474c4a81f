"""What the simulated card holds, and what it tells."""

from bench.card import Card, Tells
from vram.device import Reading


def card(tells: Tells = "own") -> Card:
    return Card(16, tells, {"small": 4, "large": 13})


def test_a_load_takes_what_the_model_really_takes_or_fails() -> None:
    gpu = card()
    assert gpu.load("small")
    assert not gpu.load("large")
    assert (gpu.own_bytes, gpu.free_bytes) == (4, 12)


def test_a_fixed_budget_never_runs_out_by_itself_and_tells_nothing() -> None:
    gpu = card("nothing")
    assert gpu.load("small")
    assert gpu.load("large")
    assert gpu.read() is None


def test_a_model_grows_while_there_is_room() -> None:
    gpu = card()
    gpu.load("large")
    assert gpu.grow("large", 3)
    assert not gpu.grow("large", 1)
    assert gpu.own_bytes == 16


def test_memory_that_comes_back_late_counts_until_it_is_back() -> None:
    gpu = card()
    gpu.load("small")
    gpu.unload("small", late_bytes=3)
    assert gpu.read() == Reading(total_bytes=16, used_bytes=3, own_bytes=3)


def test_other_processes_are_told_apart_only_where_the_driver_does() -> None:
    for tells, own_bytes in (("own", 4), ("used", None)):
        gpu = card(tells)  # type: ignore[arg-type]
        gpu.load("small")
        gpu.foreign_bytes = 5
        assert gpu.read() == Reading(total_bytes=16, used_bytes=9, own_bytes=own_bytes)
