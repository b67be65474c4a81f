"""The asyncio side of the scheduler: leases for callers, loads and unloads in tasks of their own.

All of it runs on one event loop. An event is handed to the scheduler synchronously and its effects are carried out
before anything else runs, so there is no lock.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from vram.device import Device, DeviceError, Reading, grown_bytes, shrunk_bytes
from vram.effect import Effect, Grant, Load, Refuse, Unload
from vram.ledger import Ledger
from vram.model import ModelSpec, Task
from vram.refusal import LoadFailed, OutOfMemory, Refused
from vram.scheduler import Scheduler
from vram.snapshot import Snapshot

R = TypeVar("R")

_log = logging.getLogger(__name__)

_SETTLE_S = 1.0
"""How long the memory of an unloaded model may take to come back before it counts as lost."""

_SETTLE_POLL_S = 0.05

_SETTLED = 0.9
"""The share of what a load took that must come back for an unload to be over at once."""

_CANCEL_S = 1.0
"""How long cancelled loads and unloads get to end when the arbiter stops."""


class Loader(Protocol[R]):
    """Brings models onto the device and takes them off. Neither call may block the event loop."""

    async def load(self, model: str) -> R:
        """The loaded model.

        MemoryError or OutOfMemory mean that the device is full; any other exception reaches the waiters as it is.
        A load is cancelled only when the arbiter stops; one that takes too long is awaited in the background, and
        what it returns is unloaded.
        """

    async def unload(self, model: str, runtime: R) -> None:
        """Give back all of its memory. No lease is held, and nobody else refers to `runtime`."""


class Arbiter(Generic[R]):
    """Who may be on the device.

    models: by id
    max_wait_s: per task, seconds after which no later arrival is served before a waiter that needs a swap
    queue_per_model, queue_total: waiting requests beyond which a newcomer is refused
    load_s: seconds after which a load or an unload is given up
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._device = device
        self._ledger = ledger
        self._loader = loader
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
        self._wanted: dict[int, asyncio.Future[R]] = {}
        self._runtimes: dict[str, R] = {}
        self._measured_bytes: dict[str, int] = {}
        """What the load of each resident model was seen to take."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._moving: set[str] = set()
        self._mixed: set[str] = set()
        """Moving models whose share of the device's change cannot be told, because others moved at the same time."""
        self._timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._reported_bytes = 0
        self._device_answers = True

    async def start(self) -> None:
        """Read the device for the first time."""
        self._tick()

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
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_CANCEL_S)
        if self._timer is not None:
            self._timer.cancel()

    def lease(self, model: str) -> AbstractAsyncContextManager[R]:
        """`async with arbiter.lease(model) as runtime`: waits, loads if it must, holds, and always releases.

        Entering raises Refused, or what the loader raised. Leaving does not wait for anything, so it is safe in a
        task that is being cancelled. KeyError: no such model.
        """
        return _Lease(self, self._models[model].id)

    def refusal(self, model: str) -> Refused | None:
        """Why a lease would be refused at this moment, if it would. KeyError: no such model."""
        return self._scheduler.refusal(model, self._clock())

    def snapshot(self) -> Snapshot:
        """The device, and every model on it or not, at this moment."""
        return self._scheduler.snapshot()

    async def _acquire(self, model: str) -> tuple[int, R]:
        ticket = next(self._tickets)
        granted = self._wanted[ticket] = asyncio.get_running_loop().create_future()
        if self._scheduler.phase(model) == "absent":
            self._tick()
        self._carry_out(self._scheduler.request(ticket, model, self._clock()))
        try:
            return ticket, await granted
        except asyncio.CancelledError:
            self._carry_out(self._scheduler.cancel(ticket, self._clock()))
            raise
        finally:
            del self._wanted[ticket]

    def _release(self, ticket: int) -> None:
        self._carry_out(self._scheduler.release(ticket, self._clock()))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Grant(ticket, model):
                    if not self._wanted[ticket].done():  # else its caller is being cancelled, and will say so
                        self._wanted[ticket].set_result(self._runtimes[model])
                case Refuse(ticket, error):
                    if not self._wanted[ticket].done():
                        self._wanted[ticket].set_exception(error)
                case Load(model):
                    self._move(model, self._load(model))
                case Unload(model):
                    self._move(model, self._unload(model))
        self._arm()
        if self._scheduler.empty:
            self._emptied.set()
        else:
            self._emptied.clear()

    def _move(self, model: str, work: Coroutine[Any, Any, None]) -> None:
        self._moving.add(model)
        if len(self._moving) > 1:
            self._mixed |= self._moving
        task = asyncio.get_running_loop().create_task(work, name=f"vram: {model}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _moved(self, model: str) -> bool:
        """The move is over. Was it the only one all the time, so that the device's change is its own?"""
        alone = model not in self._mixed
        self._moving.discard(model)
        self._mixed.discard(model)
        return alone

    async def _load(self, model: str) -> None:
        before = self._read()
        started_s = self._clock()
        out_of_memory = False
        failure: BaseException
        try:
            self._runtimes[model] = await self._loader.load(model)
        except (KeyboardInterrupt, SystemExit):
            raise
        except (MemoryError, OutOfMemory) as error:
            failure, out_of_memory = error, True
        except Exception as error:
            failure = error
        except BaseException as error:  # stop() cancelled it, or native code panicked
            failure = LoadFailed(model, self._clock() - started_s)
            failure.__cause__ = error
        else:
            self._loaded(model, before, self._clock() - started_s)
            return
        _log.warning("%s did not load: %s", model, type(failure).__name__)
        self._moved(model)
        reading, now_s = self._read(), self._clock()
        self._carry_out(self._scheduler.load_failed(model, failure, now_s, reading, out_of_memory=out_of_memory))

    def _loaded(self, model: str, before: Reading | None, took_s: float) -> None:
        after = self._read()
        spec = self._models[model]
        measured_bytes = None
        if self._moved(model) and before is not None and after is not None:
            measured_bytes = grown_bytes(before, after, self._ledger.bytes_for(spec))
        if measured_bytes is not None:
            self._measured_bytes[model] = measured_bytes
            self._ledger.measured(spec, measured_bytes)
        _log.info("%s loaded in %.1f s, %.2f GB", model, took_s, self._ledger.bytes_for(spec) / 1e9)
        self._carry_out(self._scheduler.loaded(model, self._clock(), after, measured_bytes=measured_bytes))

    async def _unload(self, model: str) -> None:
        before = self._read()
        try:
            await self._loader.unload(model, self._runtimes.pop(model))
        except Exception as error:
            _log.warning("unloading %s failed: %s", model, type(error).__name__)
        expected_bytes = self._measured_bytes.pop(model, None)
        if before is not None and expected_bytes is not None:
            await self._settle(before, expected_bytes)
        self._moved(model)
        _log.info("%s unloaded", model)
        self._carry_out(self._scheduler.unloaded(model, self._clock(), self._read()))
        self._report_unreturned(model)

    async def _settle(self, before: Reading, expected_bytes: int) -> None:
        """Drivers return memory late: evicting more meanwhile would be needless."""
        limit_s = self._clock() + _SETTLE_S
        while self._clock() < limit_s:
            now = self._read()
            if now is None or shrunk_bytes(before, now) >= _SETTLED * expected_bytes:
                return
            await asyncio.sleep(_SETTLE_POLL_S)

    def _report_unreturned(self, model: str) -> None:
        unreturned_bytes = self.snapshot().unreturned_bytes
        if unreturned_bytes > self._reported_bytes:
            _log.warning(
                "after unloading %s, %.2f GB are held that belong to no model: counted as used",
                model,
                unreturned_bytes / 1e9,
            )
            self._reported_bytes = unreturned_bytes

    def _read(self) -> Reading | None:
        try:
            reading = self._device.read()
        except DeviceError as error:
            if self._device_answers:
                _log.error("%s: going on with what was measured before", error)
            self._device_answers = False
            return None
        self._device_answers = True
        return reading

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_s = self._clock()
        wake_at_s = self._scheduler.wake_at_s(now_s)
        if wake_at_s is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake_at_s - now_s), self._tick)

    def _tick(self) -> None:
        self._carry_out(self._scheduler.tick(self._clock(), self._read()))


class _Lease(Generic[R]):
    """One use of one model: entered once."""

    def __init__(self, arbiter: Arbiter[R], model: str) -> None:
        self._arbiter = arbiter
        self._model = model
        self._ticket: int | None = None

    async def __aenter__(self) -> R:
        self._ticket, runtime = await self._arbiter._acquire(self._model)
        return runtime

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._ticket is not None
        self._arbiter._release(self._ticket)
