import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence

import pytest

from providers.batch import PATIENCE, Batches, Row
from providers.worker import Worker


class Work:
    """Doubles numbers, and waits for `go_on` with the first batch. batches: what came together"""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.go_on = threading.Event()
        self.stopped = False
        self._loop = asyncio.get_running_loop()

    def __call__(self, rows: Sequence[Row[int]]) -> Sequence[int]:
        self.batches.append([row.job for row in rows])
        if len(self.batches) == 1:
            self._loop.call_soon_threadsafe(self.begun.set)
            while not self.go_on.wait(timeout=0.01):
                if all(row.cancelled.is_set() for row in rows):
                    self.stopped = True
                    break
        if any(row.job < 0 for row in rows):
            raise MemoryError("the device is full")
        return [2 * row.job for row in rows]


class Clock:
    """Stands until a test moves it."""

    s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def batches(work: Work, clock: Clock) -> AsyncGenerator[Batches[int, int], None]:
    worker = Worker("batch")
    yield Batches(worker, work, alike=lambda job: job % 2, most=3, now=clock)
    work.go_on.set()
    await worker.close()


async def submitted(batches: Batches[int, int], *jobs: int) -> list[asyncio.Task[int]]:
    """Jobs that are waiting by now."""
    tasks = [asyncio.create_task(batches.submit(job)) for job in jobs]
    await asyncio.sleep(0)
    return tasks


async def test_a_job_alone_waits_for_nobody(batches: Batches[int, int], work: Work) -> None:
    work.go_on.set()

    assert await batches.submit(21) == 42
    assert await batches.submit(4) == 8
    assert work.batches == [[21], [4]]


async def test_what_comes_meanwhile_is_done_together_as_far_as_it_is_alike(
    batches: Batches[int, int], work: Work
) -> None:
    tasks = await submitted(batches, 1)
    await work.begun.wait()
    tasks += await submitted(batches, 2, 3, 4, 6, 8, 5)
    work.go_on.set()

    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 12, 16, 10]
    assert work.batches == [[1], [2, 4, 6], [3, 5], [8]]


async def test_a_job_that_is_cancelled_while_it_waits_is_never_begun(batches: Batches[int, int], work: Work) -> None:
    [first] = await submitted(batches, 1)
    await work.begun.wait()
    second, third = await submitted(batches, 2, 4)
    second.cancel()
    work.go_on.set()

    assert (await first, await third) == (2, 8)
    assert work.batches == [[1], [4]]
    assert second.cancelled()


async def test_the_last_one_to_leave_a_batch_waits_until_it_has_stopped(batches: Batches[int, int], work: Work) -> None:
    [only] = await submitted(batches, 1)
    await work.begun.wait()

    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert work.stopped


async def test_one_who_leaves_a_batch_that_goes_on_is_gone_at_once(batches: Batches[int, int], work: Work) -> None:
    leaving, staying = await submitted(batches, 2, 4)  # together: nobody had begun yet
    await work.begun.wait()

    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert not staying.done()
    work.go_on.set()
    assert await staying == 8
    assert work.batches == [[2, 4]]


async def test_what_goes_wrong_reaches_everyone_in_the_batch_and_nobody_else(
    batches: Batches[int, int], work: Work
) -> None:
    first = await submitted(batches, 1)
    await work.begun.wait()
    failing = await submitted(batches, -2, 4)
    others = await submitted(batches, 3)
    work.go_on.set()

    assert await asyncio.gather(*first, *others) == [2, 6]
    for task in failing:
        with pytest.raises(MemoryError):
            await task


async def done_together(batches: Batches[int, int], work: Work, clock: Clock, *, in_s: float) -> None:
    """A batch of 2 and 4 has just ended."""
    tasks = await submitted(batches, 2, 4)
    await work.begun.wait()
    clock.s += in_s
    work.go_on.set()
    await asyncio.gather(*tasks)


async def test_after_a_batch_the_first_to_come_back_waits_for_the_others(
    batches: Batches[int, int], work: Work, clock: Clock
) -> None:
    await done_together(batches, work, clock, in_s=60 / PATIENCE)
    [first] = await submitted(batches, 6)
    [second] = await submitted(batches, 8)
    assert [await first, await second] == [12, 16]
    assert work.batches == [[2, 4], [6, 8]]


async def test_it_waits_for_a_moment_only(batches: Batches[int, int], work: Work, clock: Clock) -> None:
    await done_together(batches, work, clock, in_s=0.001 / PATIENCE)
    assert await batches.submit(6) == 12


async def test_later_nobody_is_waited_for(batches: Batches[int, int], work: Work, clock: Clock) -> None:
    await done_together(batches, work, clock, in_s=60 / PATIENCE)
    clock.s += 60
    assert await batches.submit(6) == 12


async def test_who_leaves_while_he_waits_for_company_is_never_begun(
    batches: Batches[int, int], work: Work, clock: Clock
) -> None:
    await done_together(batches, work, clock, in_s=60 / PATIENCE)
    [leaving] = await submitted(batches, 6)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    [first, second] = await submitted(batches, 8, 10)
    assert [await first, await second] == [16, 20]
    assert work.batches == [[2, 4], [8, 10]]
