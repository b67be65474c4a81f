"""Swaps on a real arbiter with runtimes that only remember, on a card that does as it is told."""

import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from bench.swapping import Swapping, ran_out
from bench.swaps import Progress, Stay
from vram.arbiter import Arbiter
from vram.device import DeviceError, Reading
from vram.ledger import Ledger
from vram.model import ModelSpec

GB = 10**9


class Card:
    budget_bytes = 16 * GB
    name = "simulated"

    def __init__(self) -> None:
        self.own_bytes = GB // 2
        self.lost = False
        self.tells = True

    def read(self) -> Reading:
        if self.lost:
            raise DeviceError("lost")
        return Reading(20 * GB, self.own_bytes + 3 * GB, self.own_bytes if self.tells else None)


class Example:
    """A model that takes taken_bytes, and does not give back left_bytes of them."""

    def __init__(self, card: Card, taken_bytes: int, left_bytes: int) -> None:
        self._card = card
        self._back_bytes = taken_bytes - left_bytes
        card.own_bytes += taken_bytes

    def grow(self, more_bytes: int) -> None:
        self._card.own_bytes += more_bytes
        self._back_bytes += more_bytes

    async def close(self) -> None:
        self._card.own_bytes -= self._back_bytes


class Stage:
    """Two models that take 1 GB more than their size, and another with their first work; 0.1 stay behind."""

    def __init__(self, folder: Path, size: int = 9 * GB) -> None:
        self.card = Card()
        self.progress = Progress({})
        self.kept = 0
        self._size = size
        self.on_load: Callable[[str], Awaitable[None]] | None = None
        self.on_serve: Callable[[], Awaitable[None]] | None = None
        self._grown: set[Example] = set()
        models = {name: ModelSpec(name, "llm", size) for name in ("a", "b")}
        ledger = Ledger(folder / "ledger.json", "simulated")

        def measured(name: str) -> bool:
            return ledger.figures(models[name]).measured_bytes is not None

        self.swapping = Swapping(self.load, self.serve, self.card, measured, self.progress, self.keep)
        self.arbiter = Arbiter(
            models,
            self.card,
            ledger,
            self.swapping,
            max_wait_s={"asr": 0, "tts": 0, "llm": 0},
            queue_per_model=9,
            queue_total=9,
            load_s=9,
            observer=self.swapping,
        )

    async def load(self, name: str) -> Example:
        if self.on_load is not None:
            await self.on_load(name)
        return Example(self.card, self._size + GB, GB // 10)

    async def serve(self, runtime: object) -> None:
        assert isinstance(runtime, Example)
        if self.on_serve is not None:
            await self.on_serve()
        if runtime not in self._grown:
            runtime.grow(GB)
        self._grown.add(runtime)

    def keep(self) -> None:
        self.kept += 1

    async def run(self, *plan: Sequence[str], swaps: int, until_s: float = math.inf) -> None:
        """The plan again and again, until so many swaps are done."""
        await self.arbiter.start()
        try:
            steps = itertools.cycle(tuple(step) for step in plan)
            await self.swapping.run(self.arbiter, steps, swaps=swaps, until_s=until_s)
        finally:
            await self.arbiter.stop(9)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(logging.getLogger("vram.arbiter"), "disabled", True)  # it says that memory does not return
    return Stage(tmp_path)


async def test_each_stay_is_taken_down_with_what_it_took_and_left(stage: Stage) -> None:
    await stage.run("a", "b", swaps=3)

    first, *_ = stage.progress.stays
    assert (first.model, first.first, first.predicted_bytes) == ("a", True, 9 * GB)
    assert (first.loaded_bytes, first.taken_bytes) == (10 * GB, 11 * GB)
    assert (first.left_card_bytes, first.left_process_bytes) == (GB // 10, GB // 10)
    assert [stay.model for stay in stage.progress.stays] == ["a", "b", "a"]
    assert stage.progress.evictions == {"room": 2, "stopping": 1}
    assert (stage.progress.steps, stage.kept) == (3, 3)


async def test_from_the_second_load_on_the_prediction_is_what_was_measured(stage: Stage) -> None:
    await stage.run("a", "b", swaps=4)

    again = stage.progress.stays[2]
    assert (again.first, again.predicted_bytes, again.error) == (False, 11 * GB, 0.0)


async def test_where_only_the_card_is_told_its_use_is_what_counts(stage: Stage) -> None:
    stage.card.tells = False
    await stage.run("a", "b", swaps=2)

    first, *_ = stage.progress.stays
    assert (first.taken_bytes, first.left_card_bytes, first.left_process_bytes) == (11 * GB, GB // 10, None)


async def test_what_two_took_at_the_same_moment_is_not_guessed(tmp_path: Path) -> None:
    stage = Stage(tmp_path, size=3 * GB)
    await stage.run("ab", swaps=2)

    assert [stay.taken_bytes for stay in stage.progress.stays] == [None, None]
    assert [stay.left_card_bytes for stay in stage.progress.stays] == [None, None]


async def test_it_goes_on_where_an_earlier_run_stopped(stage: Stage) -> None:
    stage.progress.steps = 1
    stage.progress.stays.append(Stay("a", True, 1, 1, 1, 1.0))
    await stage.run("a", "b", swaps=2)

    assert [stay.model for stay in stage.progress.stays] == ["a", "b"]


async def test_it_stops_before_its_time_is_up(stage: Stage) -> None:
    await stage.run("a", "b", swaps=9, until_s=0.0)

    assert stage.progress.steps == 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
async def test_out_of_memory_in_a_load_is_counted_each_time(stage: Stage, error: Exception) -> None:
    async def full(model: str) -> None:
        if model == "b":
            raise error

    stage.on_load = full
    await stage.run("a", "b", swaps=2)

    assert stage.progress.out_of_memory == 2
    assert [refusal.split(":")[0] for refusal in stage.progress.refusals] == ["out_of_memory"]


async def test_out_of_memory_in_serving_is_counted(stage: Stage) -> None:
    async def full() -> None:
        stage.on_serve = None
        raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")

    stage.on_serve = full
    await stage.run("a", "b", swaps=2)

    assert stage.progress.out_of_memory == 1


async def test_a_failure_is_taken_down_and_ten_are_enough(stage: Stage) -> None:
    async def broken(model: str) -> None:
        raise ValueError("no kernel image")

    stage.on_load = broken
    await stage.run("a", "b", swaps=99)

    assert stage.progress.failures[:2] == ["a: ValueError: no kernel image", "b: ValueError: no kernel image"]
    assert len(stage.progress.failures) == 10
    assert stage.progress.out_of_memory == 0


async def test_a_card_that_does_not_answer_measures_nothing(stage: Stage) -> None:
    async def lose() -> None:
        stage.card.lost = True

    stage.on_serve = lose
    await stage.run("a", swaps=1)

    assert [stay.taken_bytes for stay in stage.progress.stays] == [None]


def test_running_out_of_memory_is_seen_through_other_words() -> None:
    error = ValueError("transformers cannot load it")
    error.__context__ = RuntimeError("CUDA error: out of memory")
    error.__suppress_context__ = True

    assert ran_out(error)
    assert not ran_out(ValueError("a kernel is missing"))
