import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

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
