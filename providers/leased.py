"""Work on a leased model, in a task of its own.

The client's own task may be cancelled at any await and over and over (that is how a server framework drops a client),
which is no place to stop native work and give back a lease in order. Here that happens in a second task, which is
cancelled once and then left to finish.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from llmux import request
from llmux.errors import ModelBusy, TimedOut, of_refusal
from providers.channel import Channel
from vram.arbiter import Arbiter, Lease
from vram.refusal import Refused

T = TypeVar("T")

_READ_AHEAD = 16
"""Items kept for a slow client before the work pauses."""


_ALONE_S = 60.0
"""When to come back to a machine that somebody has to himself: some minutes are the longest, for a slow CPU."""


class Lender(Protocol):
    """Whoever lends loaded models: Leased below, or a test that has just one."""

    def stream(self, physical: str, work: Callable[[Any], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """The items of work(runtime), with the model leased until the last one or until this is closed."""


class _End:
    """After the last item; error is what ended the work, if anything did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Leased:
    """Lends models to the OpenAI side of the providers.

    request_s: longest time from asking for the model to the last item
    """

    def __init__(self, arbiter: Arbiter[Any], *, request_s: float) -> None:
        self._arbiter = arbiter
        self._request_s = request_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._leases: set[Lease[Any]] = set()
        self._alone: Lease[Any] | None = None

    async def stream(
        self, physical: str, work: Callable[[Any], AsyncGenerator[T, None]], *, alone: bool = False
    ) -> AsyncGenerator[T, None]:
        """Lease the model, run work(runtime), yield its items. Closing this stops the work and frees the lease.

        alone: no other work runs meanwhile; where some does already, or by whoever comes then, ModelBusy is raised

        Raises LlmuxError: what the arbiter refused, TimedOut, or what the runtime raised.
        """
        if self._alone in self._leases:
            raise ModelBusy("a performance test has the machine to itself; try again", retry_after_s=_ALONE_S)
        if alone and self._leases:
            raise ModelBusy("requests are being served, and this needs the machine to itself; try again later")
        items: Channel[T | _End] = Channel(_READ_AHEAD)
        lease = self._arbiter.lease(physical)
        self._leases.add(lease)
        self._alone = lease if alone else None
        task = asyncio.create_task(self._work(lease, work, items), name=f"lease of {physical}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._leases.discard(lease))  # also when it never began

        def give_back() -> None:
            if not task.cancelling():  # the second time would break off an orderly end
                task.cancel()

        request.current().on_lease(lease.wait, give_back)
        try:
            while not isinstance(item := await items.get(), _End):
                yield item
            if item.error is not None:
                raise self._explained(item.error, physical)
        finally:
            give_back()

    async def _work(
        self, lease: Lease[Any], work: Callable[[Any], AsyncGenerator[T, None]], items: Channel[T | _End]
    ) -> None:
        end = _End()
        try:
            async with (
                asyncio.timeout(self._request_s),
                lease as runtime,
                aclosing(work(runtime)) as results,
            ):
                async for item in results:
                    await items.put(item)
        except asyncio.CancelledError as cancelled:
            items.clear()  # nobody wants them, and whoever still listens must learn of the end
            items.put_nowait(_End(cancelled))
            raise
        except Exception as error:
            end = _End(error)
        finally:
            self._leases.discard(lease)
        await items.put(end)

    def _explained(self, error: BaseException, physical: str) -> BaseException:
        if isinstance(error, TimeoutError):
            return TimedOut(f"{physical} did not finish within {self._request_s:.0f} s")
        return of_refusal(error) if isinstance(error, Refused) else error
