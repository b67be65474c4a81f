"""Carries out swaps on a real arbiter, and takes down what the device shows of each."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.swaps import Progress, Stay
from providers.runtime import Runtime
from vram.arbiter import Arbiter
from vram.device import Device, DeviceError, Reading, shrunk_bytes
from vram.effect import UnloadReason
from vram.refusal import OutOfMemory, Refused

_SETTLE_S = 1.0
_POLL_S = 0.05
"""Drivers return memory late: what is held counts once two readings agree."""

_MOST_FAILURES = 10
"""A machine on which nothing works is not asked two hundred times."""


@dataclass(slots=True)
class _Begun:
    """predicted_bytes, load_s: told once its load is over; grown_bytes: while it served, None as long as untold"""

    first: bool
    predicted_bytes: int = 0
    loaded_bytes: int | None = None
    load_s: float = 0.0
    served: bool = False
    grown_bytes: int | None = None


class Swapping:
    """The arbiter's Loader and its Observer at once.

    load, serve: of one model
    measured: whether anything was measured of a model, now or in an earlier run
    keep: called after each step
    """

    def __init__(
        self,
        load: Callable[[str], Awaitable[Runtime]],
        serve: Callable[[Runtime], Awaitable[None]],
        device: Device,
        measured: Callable[[str], bool],
        progress: Progress,
        keep: Callable[[], None],
    ) -> None:
        self._load = load
        self._serve = serve
        self._device = device
        self._measured = measured
        self._progress = progress
        self._keep = keep
        self._stays: dict[str, _Begun] = {}
        self._alone = True
        """The step asks for one model, so that what the device shows belongs to it."""
        self._moving = 0
        self._mixed = False

    async def run(
        self, arbiter: Arbiter[Runtime], plan: Iterator[tuple[str, ...]], *, swaps: int, until_s: float
    ) -> None:
        """Go on with the plan until so many models were loaded in all, or time.monotonic() is about to pass until_s."""
        progress = self._progress
        for _ in range(progress.steps):
            next(plan)
        longest_s = 0.0
        while len(progress.stays) + len(self._stays) < swaps and len(progress.failures) < _MOST_FAILURES:
            started_s = time.monotonic()
            if started_s + longest_s > until_s:
                break
            step = next(plan)
            self._alone = len(step) == 1
            await asyncio.gather(*(self._ask(arbiter, model) for model in step))
            progress.steps += 1
            longest_s = max(longest_s, time.monotonic() - started_s)
            self._keep()

    async def _ask(self, arbiter: Arbiter[Runtime], model: str) -> None:
        try:
            async with arbiter.lease(model) as runtime:
                before = self._read()
                with _as_memory_errors():
                    await self._serve(runtime)
                self._grew(model, before, self._read())
        except Refused as refused:
            self._progress.refusals.append(f"{refused.kind}: {refused}")
        except Exception as error:  # taken down, not raised: the next model may do better
            self._progress.failures.append(f"{model}: {type(error).__name__}: {error}")

    def _grew(self, model: str, before: Reading | None, after: Reading | None) -> None:
        """Beside another model its growth cannot be told. That matters the first time; later it grows no more, as it
        always does the same.
        """
        stay = self._stays[model]
        if self._alone and before is not None and after is not None:
            if not stay.served:
                stay.grown_bytes = 0
            if stay.grown_bytes is not None:
                stay.grown_bytes += max(0, -shrunk_bytes(before, after))
        stay.served = True

    # The arbiter's Loader.

    async def load(self, model: str) -> Runtime:
        begun = _Begun(first=not self._measured(model))
        with self._move(), _as_memory_errors():
            runtime = await self._load(model)
        self._stays[model] = begun
        return runtime

    async def unload(self, model: str, runtime: Runtime) -> None:
        before = self._read()
        with self._move():
            await runtime.close()
            after = await self._settled()
            mixed = self._mixed or not self._alone
        begun = self._stays.pop(model)
        loaded, grown = begun.loaded_bytes, begun.grown_bytes
        taken = None if loaded is None or grown is None else loaded + grown
        left_card = left_process = None
        if taken is not None and before is not None and after is not None and not mixed:
            left_card = taken - (before.used_bytes - after.used_bytes)
            if before.own_bytes is not None:
                left_process = taken - (before.own_bytes - (after.own_bytes or 0))
        self._progress.stays.append(
            Stay(
                model=model,
                first=begun.first,
                predicted_bytes=begun.predicted_bytes,
                loaded_bytes=loaded,
                taken_bytes=taken,
                load_s=begun.load_s,
                left_card_bytes=left_card,
                left_process_bytes=left_process,
            )
        )

    async def _settled(self) -> Reading | None:
        until_s = time.monotonic() + _SETTLE_S
        last, now = None, self._read()
        while now != last and time.monotonic() < until_s:
            await asyncio.sleep(_POLL_S)
            last, now = now, self._read()
        return now

    @contextmanager
    def _move(self) -> Iterator[None]:
        self._mixed = self._moving > 0
        self._moving += 1
        try:
            yield
        finally:
            self._moving -= 1

    def _read(self) -> Reading | None:
        try:
            return self._device.read()
        except DeviceError:
            return None  # the arbiter says so

    # The arbiter's Observer.

    def loaded(self, model: str, took_s: float, predicted_bytes: int, measured_bytes: int | None) -> None:
        begun = self._stays[model]
        begun.predicted_bytes, begun.loaded_bytes, begun.load_s = predicted_bytes, measured_bytes, took_s

    def evicted(self, model: str, reason: UnloadReason) -> None:
        self._progress.evictions[reason] = self._progress.evictions.get(reason, 0) + 1

    def granted(self, model: str, waited_s: float) -> None:
        pass

    def refused(self, model: str, kind: str) -> None:
        pass

    def out_of_memory(self, model: str) -> None:
        self._progress.out_of_memory += 1


@contextmanager
def _as_memory_errors() -> Iterator[None]:
    """Out of memory in whatever guise: torch's is a RuntimeError, and a runtime may have its own words round it."""
    try:
        yield
    except (MemoryError, OutOfMemory):
        raise
    except Exception as error:
        if ran_out(error):
            raise MemoryError(str(error)) from error
        raise


def ran_out(error: BaseException) -> bool:
    """Whether it, or what led to it, is that the device had no memory."""
    reason: BaseException | None = error
    while reason is not None:
        said = str(reason).lower()
        if isinstance(reason, MemoryError) or "out of memory" in said or "alloc_failed" in said:
            return True
        reason = reason.__cause__ or reason.__context__
    return False
