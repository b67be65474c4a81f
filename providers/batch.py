"""Jobs of several callers, done together on one worker.

Those that come while the worker is busy are done together next, as many as are alike, in the order in which they came.
A job that finds it idle starts at once, unless others were here until a moment ago: who was just served mostly comes
back within milliseconds, with his next window or his next recording, and to begin without him would take nearly twice
as long for all.
"""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from providers.worker import Cancelled, Worker

PATIENCE = 0.05
"""How long a batch waits for those who were there before, as a share of the time that the batch before it took."""

J = TypeVar("J")
R = TypeVar("R")


@dataclass(eq=False, slots=True)
class Row(Generic[J]):
    """One job in a batch. cancelled: set when nobody waits for it any more; the others go on."""

    job: J
    cancelled: Cancelled = field(default_factory=Cancelled)


class Batches(Generic[J, R]):
    """Takes one job at a time, from any task of the event loop.

    work: does a batch on the worker's thread, one result a row; what it gives for a cancelled row is thrown away
    alike: jobs of which this is equal can be done together
    most: rows in a batch
    """

    def __init__(
        self,
        worker: Worker,
        work: Callable[[Sequence[Row[J]]], Sequence[R]],
        *,
        alike: Callable[[J], Hashable],
        most: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._work = work
        self._alike = alike
        self._most = most
        self._now = now
        self._waiting: dict[Row[J], asyncio.Future[R]] = {}
        self._under_way: Sequence[Row[J]] = ()
        self._over = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._came = asyncio.Event()
        self._expected = 0
        self._expected_until_s = 0.0

    async def submit(self, job: J) -> R:
        """The job's result, or what its batch raised. Cancelled, this returns once no native work is done for it: at
        once where its batch goes on for others, and else when that has stopped.
        """
        row = Row(job)
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting[row] = result
        self._came.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="batches")
        try:
            return await result
        except asyncio.CancelledError:
            row.cancelled.set()
            self._waiting.pop(row, None)
            if row in self._under_way and all(other.cancelled.is_set() for other in self._under_way):
                await self._over.wait()
            raise

    async def _run(self) -> None:
        while self._waiting:
            await self._company()
            if not self._waiting:
                break
            kind = self._alike(next(iter(self._waiting)).job)
            rows = [row for row in self._waiting if self._alike(row.job) == kind][: self._most]
            results = [self._waiting.pop(row) for row in rows]
            self._under_way = rows
            self._over.clear()
            began_s = self._now()
            try:
                found = await self._worker.run(partial(self._do, rows))
            except Exception as error:
                for result in results:
                    if not result.done():
                        result.set_exception(error)
            else:
                for result, one in zip(results, found, strict=True):
                    if not result.done():
                        result.set_result(one)
            self._under_way = ()
            self._over.set()
            ended_s = self._now()
            self._expected = len(rows) + len(self._waiting)
            self._expected_until_s = ended_s + PATIENCE * (ended_s - began_s)
        self._running = None

    async def _company(self) -> None:
        """Wait for those who were served or were waiting when the last batch ended, for as long as that is worth it."""
        left_s = self._expected_until_s - self._now()
        if left_s <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                while len(self._waiting) < min(self._expected, self._most):
                    self._came = asyncio.Event()
                    await self._came.wait()

    def _do(self, rows: Sequence[Row[J]], _: Cancelled) -> Sequence[R]:
        return self._work(rows)
