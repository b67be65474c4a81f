"""One thread per loaded model, for native work that would block the event loop.

Cancelling is cooperative: a job is handed a `Cancelled` flag and looks at it between steps (a token, a window, a
sentence). Whoever stops listening waits for the job to see the flag; the device is then idle and the lease may go.

A job that fails because the device is full, or has failed, does so with MemoryError or DeviceFailed, whatever its
library raised (fault.py).
"""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from providers.channel import Channel
from providers.fault import fault_of

_logger = logging.getLogger(__name__)

T = TypeVar("T")

Cancelled = threading.Event
"""Set when nobody waits for the job any more."""

_READ_AHEAD = 64
"""Items a job may be ahead of its reader: enough that a slow reader costs no speed, and bounded."""


THREAD_PREFIX = "llmux-"
"""Before the name of the model, in the name of its thread."""


class _End:
    """After the last item; error is what ended the job, if anything did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Worker:
    """Runs jobs one after the other, first come first served, on a thread of its own."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix=f"{THREAD_PREFIX}{name}", initializer=_compute
        )

    async def run(self, job: Callable[[Cancelled], T]) -> T:
        """The job's result. When the caller is cancelled, the job is told so and waited for."""
        cancelled = Cancelled()
        future = asyncio.get_running_loop().run_in_executor(self._executor, partial(_run, job, cancelled))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            cancelled.set()
            with suppress(Exception):
                await future
            raise

    async def stream(self, job: Callable[[Cancelled], Iterator[T]]) -> AsyncGenerator[T, None]:
        """The job's items as they come. Closing the generator stops the job and waits until it has stopped."""
        loop = asyncio.get_running_loop()
        items: Channel[T | _End] = Channel()
        room = threading.Semaphore(_READ_AHEAD)
        cancelled = Cancelled()

        def send(item: T | _End) -> None:
            loop.call_soon_threadsafe(items.put_nowait, item)

        def work() -> None:
            error: BaseException | None = None
            try:
                for item in job(cancelled):
                    room.acquire()
                    if cancelled.is_set():
                        break
                    send(item)
            except BaseException as raised:  # whatever ends the job belongs to its reader, not to the thread
                error = meant(raised)
            send(_End(error))

        future = loop.run_in_executor(self._executor, work)
        try:
            while not isinstance(item := await items.get(), _End):
                room.release()
                yield item
            if item.error is not None:
                raise item.error
        finally:
            cancelled.set()
            room.release()
            await asyncio.shield(future)

    async def turns(self, jobs: Iterable[Callable[[Cancelled], T]]) -> AsyncGenerator[T, None]:
        """The jobs' results in order. Each job waits its turn among those of other callers, and is at work while the
        result before it is read. Closing the generator stops the job under way and waits until it has stopped.
        """
        left = iter(jobs)
        cancelled = Cancelled()
        beginning = threading.Lock()
        under_way: Future[T] | None = None
        following: Future[T] | None = None

        def begin(before: Future[T] | None = None) -> None:
            # In the thread that did the one before: to wait for the event loop would cost milliseconds a job.
            nonlocal following
            with beginning:
                following = None
                if cancelled.is_set() or (before is not None and (before.cancelled() or before.exception())):
                    return
                try:
                    if (job := next(left, None)) is not None:
                        following = self._executor.submit(_run, job, cancelled)
                except Exception as error:  # which the reader is to hear of, and not the thread
                    following = Future()
                    following.set_exception(error)

        begin()
        try:
            while (under_way := following) is not None:
                under_way.add_done_callback(begin)
                yield await asyncio.wrap_future(under_way)
        finally:
            with beginning:
                cancelled.set()
            for future in (under_way, following):
                if future is not None and not future.cancel():
                    await _ended(future)

    async def close(self) -> None:
        """Wait for the jobs under way and end the thread."""
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)


def _compute() -> None:
    """This thread, and those that its libraries start, do not interrupt the event loop when they wake up. They have the
    same right to the processor as before (sched(7)): it is only that who answers for a moment does so first.
    """
    with suppress(OSError):  # a container may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _ended(future: Future[T]) -> None:
    ended = asyncio.wrap_future(future)
    await asyncio.wait([ended])
    ended.exception()  # somebody has seen it, or nobody wants to


def _run(job: Callable[[Cancelled], T], cancelled: Cancelled) -> T:
    try:
        return job(cancelled)
    except BaseException as raised:
        error = meant(raised)
    raise error  # out here, where it gets no context: what was raised can go, with all that its frames hold


def meant(error: BaseException) -> BaseException:
    fault = fault_of(error)
    if fault is not None:
        _logger.debug("the device is at fault", exc_info=error)
    return fault or error
