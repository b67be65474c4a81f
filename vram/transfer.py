"""Loads and unloads under way: each in a task of its own, and measured by what the device showed before and after."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from vram.device import DeviceError, Reading, grown_bytes, shrunk_bytes
from vram.gauge import Gauge
from vram.refusal import LoadFailed, OutOfMemory

R = TypeVar("R")

_log = logging.getLogger(__name__)

_SETTLE_S = 1.0
"""How long the memory of an unloaded model may take to come back before it counts as lost."""

_SETTLE_POLL_S = 0.05

_SETTLED = 0.9
"""The share of what a load took that must come back for an unload to be over at once."""


class Loader(Protocol[R]):
    """Brings models onto the device and takes them off. Neither call may block the event loop."""

    async def load(self, model: str) -> R:
        """The loaded model.

        MemoryError or OutOfMemory mean that the device is full, and DeviceFailed that this process can use it no more;
        any other exception reaches the waiters as it is.
        A load is cancelled only when the arbiter stops; one that takes too long is awaited in the background, and
        what it returns is unloaded.
        """

    async def unload(self, model: str, runtime: R) -> None:
        """Give back all of its memory. No lease is held, and nobody else refers to `runtime`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load is over. measured_bytes: what it was seen to take; None where that cannot be told."""

    model: str
    took_s: float
    predicted_bytes: int
    measured_bytes: int | None
    reading: Reading | DeviceError | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A load came to nothing."""

    model: str
    error: BaseException
    out_of_memory: bool
    reading: Reading | DeviceError | None


@dataclass(frozen=True, slots=True)
class Unloaded:
    """An unload is over, and the memory that will come back has come back. error: what went wrong with it, if any."""

    model: str
    reading: Reading | DeviceError | None
    error: Exception | None


Outcome = Loaded | Failed | Unloaded


class Transfers(Generic[R]):
    """runtimes: what is loaded, by model

    tell: called on the event loop with what became of each
    clock: seconds, never going back
    """

    def __init__(
        self, loader: Loader[R], gauge: Gauge, tell: Callable[[Outcome], None], clock: Callable[[], float]
    ) -> None:
        self.runtimes: dict[str, R] = {}
        self._loader = loader
        self._gauge = gauge
        self._tell = tell
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._measured_bytes: dict[str, int] = {}
        """What the load of each model that is there was seen to take."""
        self._moving: set[str] = set()
        self._mixed: set[str] = set()
        """Moving models whose share of the device's change cannot be told, because others moved or served as well."""

    def load(self, model: str, predicted_bytes: int) -> None:
        self._begin(model, self._load(model, predicted_bytes))

    def unload(self, model: str) -> None:
        self._begin(model, self._unload(model))

    def others_serve(self) -> None:
        """What moves at this moment does so beside models that serve, whose memory may grow meanwhile."""
        self._mixed |= self._moving

    async def ended(self, model: str, limit_s: float) -> bool:
        """Wait for what is under way for the model. Whether it was over within limit_s."""
        task = self._tasks.get(model)
        return task is None or not (await asyncio.wait({task}, timeout=limit_s))[1]

    async def cancel(self, limit_s: float) -> None:
        """Cancel all that is under way, and wait for it to end."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=limit_s)

    def _begin(self, model: str, work: Coroutine[Any, Any, None]) -> None:
        self._moving.add(model)
        if len(self._moving) > 1:
            self._mixed |= self._moving
        task = asyncio.get_running_loop().create_task(work, name=f"vram: {model}")
        self._tasks[model] = task
        task.add_done_callback(lambda _: self._forget(model, task))

    def _forget(self, model: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(model) is task:  # else the model moves on already
            del self._tasks[model]

    def _moved(self, model: str) -> bool:
        """The move is over. Was it alone all the time, so that the device's change is its own?"""
        alone = model not in self._mixed
        self._moving.discard(model)
        self._mixed.discard(model)
        return alone

    async def _load(self, model: str, predicted_bytes: int) -> None:
        before = self._gauge.read()
        started_s = self._clock()
        out_of_memory = False
        failure: BaseException
        try:
            self.runtimes[model] = await self._loader.load(model)
        except (KeyboardInterrupt, SystemExit):
            raise
        except (MemoryError, OutOfMemory) as error:
            failure, out_of_memory = error, True
        except Exception as error:
            failure = error
        except BaseException as error:  # it was cancelled, or native code panicked
            failure = LoadFailed(model, self._clock() - started_s)
            failure.__cause__ = error
        else:
            took_s = self._clock() - started_s
            after = self._gauge.read()
            measured_bytes = None
            if self._moved(model) and isinstance(before, Reading) and isinstance(after, Reading):
                measured_bytes = grown_bytes(before, after, predicted_bytes)
            if measured_bytes is not None:
                self._measured_bytes[model] = measured_bytes
            _log.info("%s loaded in %.1f s, %.2f GB", model, took_s, (measured_bytes or predicted_bytes) / 1e9)
            self._tell(Loaded(model, took_s, predicted_bytes, measured_bytes, after))
            return
        _log.warning("%s did not load: %s", model, type(failure).__name__)
        self._moved(model)
        self._tell(Failed(model, failure, out_of_memory, self._gauge.read()))

    async def _unload(self, model: str) -> None:
        before = self._gauge.read()
        failure = None
        try:
            await self._loader.unload(model, self.runtimes.pop(model))
        except Exception as error:
            failure = error
            _log.warning("unloading %s failed: %s", model, type(error).__name__)
        expected_bytes = self._measured_bytes.pop(model, None)
        if isinstance(before, Reading) and expected_bytes is not None:
            await self._settle(before, expected_bytes)
        self._moved(model)
        _log.info("%s unloaded", model)
        self._tell(Unloaded(model, self._gauge.read(), failure))

    async def _settle(self, before: Reading, expected_bytes: int) -> None:
        """Drivers return memory late: evicting more meanwhile would be needless."""
        limit_s = self._clock() + _SETTLE_S
        while self._clock() < limit_s:
            now = self._gauge.read()
            if not isinstance(now, Reading) or shrunk_bytes(before, now) >= _SETTLED * expected_bytes:
                return
            await asyncio.sleep(_SETTLE_POLL_S)
