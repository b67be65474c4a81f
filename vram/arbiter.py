"""The asyncio side of the scheduler: leases for callers, loads and unloads in tasks of their own.

All of it runs on one event loop. An event is handed to the scheduler synchronously and its effects are carried out
before anything else runs, so there is no lock.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from vram.device import Device
from vram.effect import Effect, Grant, Load, Refuse, Unload
from vram.gauge import Gauge
from vram.ledger import Ledger
from vram.model import ModelSpec, Task
from vram.observer import Observer
from vram.preload import preload
from vram.refusal import Busy, DeviceFailed, OutOfMemory, Refused
from vram.scheduler import Scheduler
from vram.snapshot import Snapshot, Wait
from vram.transfer import Failed, Loaded, Loader, Outcome, Transfers, Unloaded

R = TypeVar("R")

_log = logging.getLogger(__name__)

_CANCEL_S = 1.0
"""How long cancelled loads and unloads get to end when the arbiter stops."""


class Arbiter(Generic[R]):
    """Who may be on the device.

    models: by id
    max_wait_s: per task, seconds after which no later arrival is served before a waiter that needs a swap
    queue_per_model, queue_total: waiting requests beyond which a newcomer is refused
    load_s: seconds after which a load or an unload is given up
    observer: told of every load, eviction, grant and refusal
    on_failure: called once when the device has failed under this process, which is of no use any more: from then on
        whoever waits and whoever comes is refused
    clock: seconds, never going back
    """

    def __init__(
        self,
        models: Mapping[str, ModelSpec],
        device: Device,
        ledger: Ledger,
        loader: Loader[R],
        *,
        max_wait_s: Mapping[Task, float],
        queue_per_model: int,
        queue_total: int,
        load_s: float,
        observer: Observer | None = None,
        on_failure: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._gauge = Gauge(device)
        self._ledger = ledger
        self._load_s = load_s
        self._observer = observer
        self._on_failure = on_failure
        self._clock = clock
        self._scheduler = Scheduler(
            models.values(),
            ledger,
            device.budget_bytes,
            max_wait_s=max_wait_s,
            queue_per_model=queue_per_model,
            queue_total=queue_total,
            load_s=load_s,
        )
        self._tickets = itertools.count()
        self._wanted: dict[int, _Wanted[R]] = {}
        self._transfers = Transfers(loader, self._gauge, self._transferred, clock)
        self._preloading: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._reported_bytes = 0
        self._device_failed = False

    async def start(self) -> None:
        """Read the device for the first time, look at the files of the models, and begin to preload."""
        with_files = [spec for spec in self._models.values() if spec.files is not None]
        if with_files:
            await asyncio.to_thread(self._ledger.predict, with_files)
        self._tick()
        self._preloading = asyncio.create_task(preload(self, self._models.values()), name="vram: preload")

    def close(self) -> None:
        """Refuse whoever waits and whoever comes, and unload what is idle: the first step of `stop`, which waits."""
        self._carry_out(self._scheduler.shutdown(self._clock()))

    async def stop(self, limit_s: float) -> None:
        """Refuse whoever waits, unload what is idle, and what is busy once it is released.

        After limit_s seconds, loads and unloads that are still under way are cancelled; a model that is still held
        stays where it is, for its memory cannot be taken from under a request.
        """
        self.close()
        try:
            async with asyncio.timeout(limit_s):
                await self._emptied.wait()
        except TimeoutError:
            left = [model.id for model in self.snapshot().models if model.phase != "absent"]
            _log.warning("stopping although these are still on the device: %s", ", ".join(left))
            await self._transfers.cancel(_CANCEL_S)
        if self._preloading is not None:
            await self._preloading  # its waiter was refused, so it is over
        if self._timer is not None:
            self._timer.cancel()

    def lease(self, model: str) -> "Lease[R]":
        """`async with arbiter.lease(model) as runtime`: waits, loads if it must, holds, and always releases.

        Entering raises Refused, or what the loader raised. A lease that ends with MemoryError or OutOfMemory raises
        OutOfMemory, and its model is loaded afresh before it serves again; one that ends with DeviceFailed is the
        last. Leaving does not wait for anything, so it is safe in a task that is being cancelled.
        KeyError: no such model.
        """
        return Lease(self, self._models[model].id)

    def waiting(self, ticket: int) -> Wait | None:
        """What a request waits for; None when it does not wait."""
        return self._scheduler.waiting(ticket, self._clock())

    def is_resident(self, model: str) -> bool:
        """Whether the model is on the device, ready to serve. KeyError: no such model."""
        return self._scheduler.phase(model) == "resident"

    async def load(self, model: str) -> None:
        """Make the model resident: waits and evicts like a lease, raises as entering one. KeyError: no such model."""
        if not self.is_resident(model):
            async with self.lease(model):
                pass

    async def unload(self, model: str) -> None:
        """Take the model off the device, pinned or not. Raises Busy while it is of use, or when it does not leave
        within load_s. KeyError: no such model.
        """
        self._carry_out(self._scheduler.unload(model, self._clock()))
        if not await self._transfers.ended(model, self._load_s):
            raise Busy(model, "hangs in unloading")

    def pin(self, model: str, pinned: bool) -> None:
        """Keep the model once it is resident, or no longer. It is not loaded by this. KeyError: no such model."""
        self._carry_out(self._scheduler.pin(model, pinned, self._clock()))

    def refusal(self, model: str) -> Refused | None:
        """Why a lease would be refused at this moment, if it would. KeyError: no such model."""
        return self._scheduler.refusal(model, self._clock())

    def snapshot(self) -> Snapshot:
        """The device, and every model on it or not, at this moment."""
        return self._scheduler.snapshot(self._clock())

    def _ask(self, model: str) -> int:
        ticket = next(self._tickets)
        if self._scheduler.phase(model) == "absent":
            self._ledger.predict([self._models[model]])
            self._tick()
        self._wanted[ticket] = _Wanted(model, self._clock(), asyncio.get_running_loop().create_future())
        self._carry_out(self._scheduler.request(ticket, model, self._clock()))
        return ticket

    async def _granted(self, ticket: int) -> R:
        try:
            return await self._wanted[ticket].granted
        except asyncio.CancelledError:
            self._carry_out(self._scheduler.cancel(ticket, self._clock()))
            raise
        finally:
            del self._wanted[ticket]

    def _release(self, ticket: int, model: str, *, out_of_memory: bool) -> None:
        now_s = self._clock()
        if out_of_memory:
            _log.warning("%s ran out of memory while it served: it is loaded afresh", model)
            if self._observer is not None:
                self._observer.out_of_memory(model)
        self._carry_out(self._scheduler.release(ticket, now_s, self._gauge.read(), out_of_memory=out_of_memory))

    def _look_at(self, error: BaseException | None) -> None:
        """Nothing is to be done any more where the device has failed."""
        if isinstance(error, DeviceFailed) and not self._device_failed:
            self._device_failed = True
            _log.critical("the device failed (%s): nothing in this process can use it any more", error)
            self.close()
            self._on_failure()

    def _retry_after_s(self, model: str) -> float:
        return self._scheduler.retry_after_s(model, self._clock())

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Grant(ticket, model):
                    self._grant(self._wanted[ticket])
                case Refuse(ticket, error):
                    self._refuse(self._wanted[ticket], error)
                case Load(model):
                    self._transfers.load(model, self._ledger.bytes_for(self._models[model]))
                case Unload(model, reason):
                    if self._observer is not None:
                        self._observer.evicted(model, reason)
                    self._transfers.unload(model)
        if self._scheduler.serving:
            self._transfers.others_serve()
        self._arm()
        if self._scheduler.empty:
            self._emptied.set()
        else:
            self._emptied.clear()

    def _grant(self, wanted: "_Wanted[R]") -> None:
        if wanted.granted.done():  # its caller is being cancelled, and will say so
            return
        wanted.granted.set_result(self._transfers.runtimes[wanted.model])
        if self._observer is not None:
            self._observer.granted(wanted.model, self._clock() - wanted.since_s)

    def _refuse(self, wanted: "_Wanted[R]", error: BaseException) -> None:
        if wanted.granted.done():
            return
        wanted.granted.set_exception(error)
        if self._observer is not None:
            self._observer.refused(wanted.model, error.kind if isinstance(error, Refused) else "error")

    def _transferred(self, outcome: Outcome) -> None:
        now_s = self._clock()
        failure: BaseException | None = None
        match outcome:
            case Loaded(model, took_s, predicted_bytes, measured_bytes, reading):
                if self._observer is not None:
                    self._observer.loaded(model, took_s, predicted_bytes, measured_bytes)
                effects = self._scheduler.loaded(model, now_s, reading, measured_bytes=measured_bytes)
            case Failed(model, error, out_of_memory, reading):
                if out_of_memory and self._observer is not None:
                    self._observer.out_of_memory(model)
                failure = error
                effects = self._scheduler.load_failed(model, error, now_s, reading, out_of_memory=out_of_memory)
            case Unloaded(model, reading, failure):
                effects = self._scheduler.unloaded(model, now_s, reading)
                self._report_unreturned(model)
        self._carry_out(effects)
        self._look_at(failure)

    def _report_unreturned(self, model: str) -> None:
        unreturned_bytes = self.snapshot().unreturned_bytes
        if unreturned_bytes > self._reported_bytes:
            _log.warning(
                "after unloading %s, %.2f GB are held that belong to no model: counted as used",
                model,
                unreturned_bytes / 1e9,
            )
            self._reported_bytes = unreturned_bytes

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at_s = self._scheduler.wake_at_s()
        if wake_at_s is not None:
            delay_s = max(0.0, wake_at_s - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._carry_out(self._scheduler.tick(self._clock(), self._gauge.read()))


@dataclass(frozen=True, slots=True)
class _Wanted(Generic[R]):
    """A request that waits: for what, since when, and where its caller is told."""

    model: str
    since_s: float
    granted: asyncio.Future[R]


class Lease(Generic[R]):
    """One use of one model: entered once."""

    def __init__(self, arbiter: Arbiter[R], model: str) -> None:
        self._arbiter = arbiter
        self._model = model
        self._ticket: int | None = None

    def wait(self) -> Wait | None:
        """What it waits for; None before it is entered and from when it is granted or refused."""
        return None if self._ticket is None else self._arbiter.waiting(self._ticket)

    async def __aenter__(self) -> R:
        self._ticket = self._arbiter._ask(self._model)
        return await self._arbiter._granted(self._ticket)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._ticket is not None
        out_of_memory = isinstance(error, MemoryError | OutOfMemory)
        self._arbiter._release(self._ticket, self._model, out_of_memory=out_of_memory)
        self._arbiter._look_at(error)
        if out_of_memory:
            raise OutOfMemory(self._model, self._arbiter._retry_after_s(self._model)) from error
