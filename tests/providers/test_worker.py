import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial

import pytest

from providers.worker import Cancelled, Worker


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker("test")
    yield worker
    await worker.close()


async def test_every_job_runs_on_the_same_thread(worker: Worker) -> None:
    def job(_: Cancelled) -> int:
        return threading.get_ident()

    assert len({await worker.run(job) for _ in range(3)}) == 1
    assert await worker.run(job) != threading.get_ident()


async def test_what_computes_does_not_interrupt_what_answers(worker: Worker) -> None:
    policies: list[int] = []

    def job(_: Cancelled) -> None:
        thread = threading.Thread(target=lambda: policies.append(os.sched_getscheduler(0)))
        thread.start()
        thread.join()
        policies.append(os.sched_getscheduler(0))

    await worker.run(job)
    assert policies == [os.SCHED_BATCH] * 2, "and so does what its libraries start"
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


async def test_where_that_is_forbidden_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    worker = Worker("test")
    assert await worker.run(lambda _: 1) == 1
    await worker.close()


async def test_items_arrive_in_order_and_an_error_after_them(worker: Worker) -> None:
    def job(_: Cancelled) -> Iterator[int]:
        yield from range(200)
        raise ValueError("the end")

    seen: list[int] = []

    async def read() -> None:
        async for item in worker.stream(job):
            seen.append(item)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(ValueError, match="the end"):
        await read()
    assert seen == list(range(200))


async def test_closing_a_stream_stops_its_job_before_the_close_returns(worker: Worker) -> None:
    stopped = threading.Event()

    def job(cancelled: Cancelled) -> Iterator[int]:
        yield 1
        cancelled.wait()
        stopped.set()

    async with aclosing(worker.stream(job)) as items:
        assert await anext(items) == 1
    assert stopped.is_set()
    assert await worker.run(lambda _: "free") == "free"


async def test_a_job_that_waits_for_a_slow_reader_is_stopped_too(worker: Worker) -> None:
    def endless(_: Cancelled) -> Iterator[int]:
        while True:
            yield 0

    async with aclosing(worker.stream(endless)) as items:
        await anext(items)
    assert await worker.run(lambda _: "free") == "free"


async def test_a_cancelled_call_tells_its_job_and_waits_for_it(worker: Worker) -> None:
    running, stopped = threading.Event(), threading.Event()

    def job(cancelled: Cancelled) -> None:
        running.set()
        cancelled.wait()
        stopped.set()

    call = asyncio.create_task(worker.run(job))
    await asyncio.to_thread(running.wait)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert stopped.is_set()


async def test_a_cancelled_reader_stops_its_job(worker: Worker) -> None:
    started, stopped = threading.Event(), threading.Event()

    def job(cancelled: Cancelled) -> Iterator[int]:
        started.set()
        cancelled.wait()
        stopped.set()
        yield from ()

    async def read() -> None:
        async for _ in worker.stream(job):
            pass

    reader = asyncio.create_task(read())
    await asyncio.to_thread(started.wait)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert stopped.is_set()


async def test_closing_the_worker_ends_its_thread() -> None:
    worker = Worker("ends")
    thread = await worker.run(lambda _: threading.current_thread())
    await worker.close()
    assert not thread.is_alive()


async def test_turns_come_in_order_and_alternate_between_callers(worker: Worker) -> None:
    made: list[str] = []
    go_on = threading.Event()

    def jobs(name: str) -> Iterator[Callable[[Cancelled], str]]:
        def job(number: int, _: Cancelled) -> str:
            assert go_on.wait(timeout=60)
            made.append(f"{name}{number}")
            return f"{name}{number}"

        return (partial(job, number) for number in range(3))

    async def read(name: str) -> list[str]:
        return [item async for item in worker.turns(jobs(name))]

    first, second = asyncio.create_task(read("a")), asyncio.create_task(read("b"))
    await asyncio.sleep(0)  # both have queued their first
    await asyncio.sleep(0)
    go_on.set()

    assert await first == ["a0", "a1", "a2"]
    assert await second == ["b0", "b1", "b2"]
    assert made == ["a0", "b0", "a1", "b1", "a2", "b2"]


async def test_the_next_turn_is_taken_while_the_last_is_read(worker: Worker) -> None:
    second_made = threading.Event()

    async with aclosing(worker.turns([lambda _: None, lambda _: second_made.set()])) as items:
        await anext(items)
        assert await asyncio.to_thread(second_made.wait, 60)


async def test_closing_turns_stops_the_one_under_way_before_the_close_returns(worker: Worker) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def wait(cancelled: Cancelled) -> None:
        begun.set()
        assert cancelled.wait(timeout=60)
        stopped.set()

    async with aclosing(worker.turns([lambda _: None, wait])) as items:
        await anext(items)
        await asyncio.to_thread(begun.wait, 60)
    assert stopped.is_set()


async def test_a_turn_that_fails_is_the_last(worker: Worker) -> None:
    def fail(_: Cancelled) -> int:
        raise ValueError("no")

    later = threading.Event()

    def go_on(_: Cancelled) -> int:
        later.set()
        return 3

    items = worker.turns([lambda _: 1, fail, go_on])
    assert await anext(items) == 1
    with pytest.raises(ValueError, match="no"):
        await anext(items)
    assert not later.is_set()


async def test_no_jobs_are_no_turns(worker: Worker) -> None:
    none: list[Callable[[Cancelled], int]] = []
    assert [item async for item in worker.turns(none)] == []


async def test_a_turn_that_cannot_be_begun_is_told_to_the_reader(worker: Worker) -> None:
    def jobs() -> Iterator[Callable[[Cancelled], int]]:
        yield lambda _: 1
        raise LookupError("no second job")

    turns = worker.turns(jobs())
    assert await anext(turns) == 1
    with pytest.raises(LookupError, match="no second job"):
        await anext(turns)
