"""The asyncio side of the scheduler: leases for callers, loads and unloads in tasks of their own.

All of it runs on one event loop. An event is handed to the scheduler synchronously and its effects are carried out
before anything else runs, so there is no lock.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from vram.device import Device, DeviceError, Reading, grown_bytes, shrunk_bytes
from vram.effect import Effect, Grant, Load, Refuse, Unload
from vram.ledger import Ledger
from vram.model import ModelSpec, Task
from vram.observer import Observer
from vram.preload import preload
from vram.refusal import Busy, LoadFailed, OutOfMemory, Refused
from vram.scheduler import Scheduler
from vram.snapshot import Snapshot, Wait

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
    observer: told of every load, eviction, grant and refusal
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._device = device
        self._ledger = ledger
        self._loader = loader
        self._load_s = load_s
        self._observer = observer
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
        self._runtimes: dict[str, R] = {}
        self._measured_bytes: dict[str, int] = {}
        """What the load of each resident model was seen to take."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """The load or unload of each model that has one under way."""
        self._preloading: asyncio.Task[None] | None = None
        self._moving: set[str] = set()
        self._mixed: set[str] = set()
        """Moving models whose share of the device's change cannot be told, because others moved at the same time."""
        self._timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._reported_bytes = 0
        self._device_answers = True

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
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_CANCEL_S)
        if self._preloading is not None:
            await self._preloading  # its waiter was refused, so it is over
        if self._timer is not None:
            self._timer.cancel()

    def lease(self, model: str) -> "Lease[R]":
        """`async with arbiter.lease(model) as runtime`: waits, loads if it must, holds, and always releases.

        Entering raises Refused, or what the loader raised. A lease that ends with MemoryError or OutOfMemory raises
        OutOfMemory, and its model is loaded afresh before it serves again. Leaving does not wait for anything, so it
        is safe in a task that is being cancelled. KeyError: no such model.
        """
        return Lease(self, self._models[model].id)

    def waiting(self, ticket: int) -> Wait | None:
        """What a request waits for; None when it does not wait."""
        return self._scheduler.waiting(ticket, self._clock())

    async def load(self, model: str) -> None:
        """Make the model resident: waits and evicts like a lease, raises as entering one. KeyError: no such model."""
        if self._scheduler.phase(model) != "resident":
            async with self.lease(model):
                pass

    async def unload(self, model: str) -> None:
        """Take the model off the device, pinned or not. Raises Busy while it is of use, or when it does not leave
        within load_s. KeyError: no such model.
        """
        self._carry_out(self._scheduler.unload(model, self._clock()))
        if model in self._tasks:
            _, hanging = await asyncio.wait({self._tasks[model]}, timeout=self._load_s)
            if hanging:
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
        self._carry_out(self._scheduler.release(ticket, now_s, self._read(), out_of_memory=out_of_memory))

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
                    self._move(model, self._load(model))
                case Unload(model, reason):
                    if self._observer is not None:
                        self._observer.evicted(model, reason)
                    self._move(model, self._unload(model))
        self._arm()
        if self._scheduler.empty:
            self._emptied.set()
        else:
            self._emptied.clear()

    def _grant(self, wanted: "_Wanted[R]") -> None:
        if wanted.granted.done():  # its caller is being cancelled, and will say so
            return
        wanted.granted.set_result(self._runtimes[wanted.model])
        if self._observer is not None:
            self._observer.granted(wanted.model, self._clock() - wanted.since_s)

    def _refuse(self, wanted: "_Wanted[R]", error: BaseException) -> None:
        if wanted.granted.done():
            return
        wanted.granted.set_exception(error)
        if self._observer is not None:
            self._observer.refused(wanted.model, error.kind if isinstance(error, Refused) else "error")

    def _move(self, model: str, work: Coroutine[Any, Any, None]) -> None:
        self._moving.add(model)
        if len(self._moving) > 1:
            self._mixed |= self._moving
        task = asyncio.get_running_loop().create_task(work, name=f"vram: {model}")
        self._tasks[model] = task
        task.add_done_callback(lambda _: self._ended(model, task))

    def _ended(self, model: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(model) is task:  # else the model moves on already
            del self._tasks[model]

    def _moved(self, model: str) -> bool:
        """The move is over. Was it the only one all the time, so that the device's change is its own?"""
        alone = model not in self._mixed
        self._moving.discard(model)
        self._mixed.discard(model)
        return alone

    async def _load(self, model: str) -> None:
        before = self._read()
        started_s = self._clock()
        predicted_bytes = self._ledger.bytes_for(self._models[model])
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
            self._loaded(model, before, self._clock() - started_s, predicted_bytes)
            return
        _log.warning("%s did not load: %s", model, type(failure).__name__)
        if out_of_memory and self._observer is not None:
            self._observer.out_of_memory(model)
        self._moved(model)
        reading, now_s = self._read(), self._clock()
        self._carry_out(self._scheduler.load_failed(model, failure, now_s, reading, out_of_memory=out_of_memory))

    def _loaded(self, model: str, before: Reading | DeviceError | None, took_s: float, predicted_bytes: int) -> None:
        after = self._read()
        measured_bytes = None
        if self._moved(model) and isinstance(before, Reading) and isinstance(after, Reading):
            measured_bytes = grown_bytes(before, after, predicted_bytes)
        if measured_bytes is not None:
            self._measured_bytes[model] = measured_bytes
        _log.info("%s loaded in %.1f s, %.2f GB", model, took_s, (measured_bytes or predicted_bytes) / 1e9)
        if self._observer is not None:
            self._observer.loaded(model, took_s, predicted_bytes, measured_bytes)
        self._carry_out(self._scheduler.loaded(model, self._clock(), after, measured_bytes=measured_bytes))

    async def _unload(self, model: str) -> None:
        before = self._read()
        try:
            await self._loader.unload(model, self._runtimes.pop(model))
        except Exception as error:
            _log.warning("unloading %s failed: %s", model, type(error).__name__)
        expected_bytes = self._measured_bytes.pop(model, None)
        if isinstance(before, Reading) and expected_bytes is not None:
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
            if not isinstance(now, Reading) or shrunk_bytes(before, now) >= _SETTLED * expected_bytes:
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

    def _read(self) -> Reading | DeviceError | None:
        try:
            reading = self._device.read()
        except DeviceError as error:
            if self._device_answers:
                _log.error("%s: what is loaded is served, and nothing is loaded until it answers again", error)
            self._device_answers = False
            return error
        if not self._device_answers:
            _log.info("%s answers again", self._device.name)
        self._device_answers = True
        return reading

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at_s = self._scheduler.wake_at_s()
        if wake_at_s is not None:
            delay_s = max(0.0, wake_at_s - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._carry_out(self._scheduler.tick(self._clock(), self._read()))


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
        if out_of_memory:
            raise OutOfMemory(self._model, self._arbiter._retry_after_s(self._model)) from error
