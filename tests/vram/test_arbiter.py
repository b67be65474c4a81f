"""Leases on an event loop: a fake loader, a clock that jumps, and callers that vanish at every moment."""

import asyncio
import gc
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from vram.arbiter import Arbiter
from vram.device import Device, DeviceError, FixedBudget, Reading
from vram.effect import UnloadReason
from vram.ledger import Ledger
from vram.model import ModelSpec
from vram.observer import Observer
from vram.outlook import DEVICE_RECHECK_S
from vram.refusal import Busy, DeviceFailed, DeviceLost, LoadFailed, NeverFits, OutOfMemory, QueueFull, Stopping
from vram.snapshot import ModelState, Wait

GB = 10**9

MODELS = {
    model.id: model
    for model in (
        ModelSpec("asr", "asr", 4 * GB, max_concurrency=2),
        ModelSpec("tts", "tts", 2 * GB),
        ModelSpec("llm", "llm", 9 * GB, max_concurrency=2),
        ModelSpec("middle", "llm", 7 * GB),
        ModelSpec("large", "llm", 13 * GB),
        ModelSpec("monster", "llm", 17 * GB),
    )
}


class Runtime:
    def __init__(self, model: str) -> None:
        self.model = model


async def nothing(model: str) -> None:
    """Loads and unloads take no time."""


class FakeLoader:
    """Remembers what it did. on_load and on_unload run first, and may wait or raise."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.present: set[str] = set()
        self.on_load: Callable[[str], Awaitable[None]] = nothing
        self.on_unload: Callable[[str], Awaitable[None]] = nothing

    async def load(self, model: str) -> Runtime:
        self.did.append(f"load {model}")
        assert model not in self.present
        await self.on_load(model)
        self.present.add(model)
        return Runtime(model)

    async def unload(self, model: str, runtime: Runtime) -> None:
        self.did.append(f"unload {model}")
        assert runtime.model == model
        await self.on_unload(model)
        self.present.discard(model)


class FakeGpu:
    """16 GB; what is on it follows the loader, in sizes of its own."""

    name = "fake"
    budget_bytes = 16 * GB

    def __init__(self, loader: FakeLoader, sizes: dict[str, int]) -> None:
        self.loader = loader
        self.sizes = sizes
        self.left_behind = 0
        self.others = 0
        self.answers = True

    def read(self) -> Reading:
        if not self.answers:
            raise DeviceError("fake does not answer")
        own = sum(self.sizes[model] for model in self.loader.present) + self.left_behind
        return Reading(16 * GB, own + self.others, own)


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.json", "fake")


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.facts: list[tuple[object, ...]] = []

    def loaded(self, model: str, took_s: float, predicted_bytes: int, measured_bytes: int | None) -> None:
        self.facts.append(("loaded", model, took_s, predicted_bytes, measured_bytes))

    def evicted(self, model: str, reason: UnloadReason) -> None:
        self.facts.append(("evicted", model, reason))

    def granted(self, model: str, waited_s: float) -> None:
        self.facts.append(("granted", model, waited_s))

    def refused(self, model: str, kind: str) -> None:
        self.facts.append(("refused", model, kind))

    def out_of_memory(self, model: str) -> None:
        self.facts.append(("out_of_memory", model))


def arbiter_of(
    loader: FakeLoader,
    ledger: Ledger,
    device: Device | None = None,
    *,
    models: Mapping[str, ModelSpec] = MODELS,
    observer: Observer | None = None,
    on_failure: Callable[[], None] = lambda: None,
) -> Arbiter[Runtime]:
    return Arbiter(
        models,
        device or FixedBudget(16 * GB),
        ledger,
        loader,
        max_wait_s={"asr": 1, "tts": 2, "llm": 20},
        queue_per_model=4,
        queue_total=8,
        load_s=600,
        observer=observer,
        on_failure=on_failure,
        clock=asyncio.get_running_loop().time,
    )


@pytest.fixture
async def arbiter(loader: FakeLoader, ledger: Ledger) -> Arbiter[Runtime]:
    arbiter = arbiter_of(loader, ledger)
    await arbiter.start()
    return arbiter


def state(arbiter: Arbiter[Runtime], model: str) -> ModelState:
    return next(each for each in arbiter.snapshot().models if each.id == model)


async def use(arbiter: Arbiter[Runtime], *models: str) -> None:
    for model in models:
        async with arbiter.lease(model):
            pass


async def settle() -> None:
    """Let everything happen that can happen without time going by."""
    for _ in range(20):
        await asyncio.sleep(0)


class Holder:
    """A caller that holds a lease until it is told to let go."""

    def __init__(self, arbiter: Arbiter[Runtime], model: str) -> None:
        self.entered = asyncio.Event()
        self.let_go = asyncio.Event()
        self.task = asyncio.create_task(self._hold(arbiter, model))

    async def _hold(self, arbiter: Arbiter[Runtime], model: str) -> None:
        async with arbiter.lease(model):
            self.entered.set()
            await self.let_go.wait()


# Leases.


async def test_a_lease_loads_the_model_holds_it_and_gives_it_back(
    arbiter: Arbiter[Runtime], loader: FakeLoader
) -> None:
    async with arbiter.lease("llm") as runtime:
        assert runtime.model == "llm"
        assert state(arbiter, "llm").leases == 1
    assert state(arbiter, "llm").leases == 0

    async with arbiter.lease("llm") as again:
        assert again is runtime
    assert loader.did == ["load llm"]


async def test_two_first_requests_share_one_load(arbiter: Arbiter[Runtime], loader: FakeLoader) -> None:
    await asyncio.gather(use(arbiter, "llm"), use(arbiter, "llm"))

    assert loader.did == ["load llm"]


async def test_an_idle_model_makes_room(arbiter: Arbiter[Runtime], loader: FakeLoader) -> None:
    await use(arbiter, "asr", "llm", "large")

    assert loader.did == ["load asr", "load llm", "unload llm", "unload asr", "load large"]


async def test_an_error_inside_the_lease_releases_it_and_goes_through(arbiter: Arbiter[Runtime]) -> None:
    with pytest.raises(ZeroDivisionError):
        async with arbiter.lease("llm"):
            raise ZeroDivisionError

    assert state(arbiter, "llm").leases == 0


async def test_a_model_that_nobody_configured_is_a_key_error(arbiter: Arbiter[Runtime]) -> None:
    with pytest.raises(KeyError):
        arbiter.lease("unknown")
    with pytest.raises(KeyError):
        arbiter.refusal("unknown")


async def test_refusals_reach_the_caller_and_are_known_before(arbiter: Arbiter[Runtime]) -> None:
    with pytest.raises(NeverFits):
        await use(arbiter, "monster")
    assert isinstance(arbiter.refusal("monster"), NeverFits)

    callers = [Holder(arbiter, "tts")]
    await callers[0].entered.wait()
    callers += [Holder(arbiter, "tts") for _ in range(4)]
    await settle()
    assert isinstance(arbiter.refusal("tts"), QueueFull)
    with pytest.raises(QueueFull):
        await use(arbiter, "tts")

    for caller in callers:
        caller.let_go.set()
    await asyncio.gather(*(caller.task for caller in callers))
    assert arbiter.refusal("tts") is None


async def test_a_waiter_becomes_overdue_although_nothing_happens(arbiter: Arbiter[Runtime], loader: FakeLoader) -> None:
    """An llm may push out the idle asr only once it has waited its time."""
    await use(arbiter, "asr")
    holder = Holder(arbiter, "llm")
    await holder.entered.wait()

    await use(arbiter, "middle")

    assert asyncio.get_running_loop().time() == pytest.approx(20)
    assert loader.did == ["load asr", "load llm", "unload asr", "load middle"]
    holder.let_go.set()
    await holder.task


# Callers that vanish.


@pytest.mark.parametrize("steps", range(12))
async def test_a_caller_cancelled_at_any_step_leaves_no_lease(
    arbiter: Arbiter[Runtime], loader: FakeLoader, steps: int
) -> None:
    async def yields(model: str) -> None:
        await asyncio.sleep(0)

    loader.on_load = loader.on_unload = yields
    await use(arbiter, "llm")
    caller = Holder(arbiter, "large")
    for _ in range(steps):
        await asyncio.sleep(0)

    caller.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller.task
    await settle()

    assert [(each.leases, each.waiting) for each in arbiter.snapshot().models] == [(0, 0)] * len(MODELS)
    await use(arbiter, "large", "llm")


async def test_a_caller_that_vanishes_during_the_load_leaves_the_model_loaded(
    arbiter: Arbiter[Runtime], loader: FakeLoader
) -> None:
    gate = asyncio.Event()

    async def waits(model: str) -> None:
        await gate.wait()

    loader.on_load = waits
    caller = Holder(arbiter, "llm")
    await settle()
    caller.task.cancel()
    await settle()
    gate.set()
    await settle()

    assert (state(arbiter, "llm").phase, state(arbiter, "llm").leases) == ("resident", 0)


async def test_a_caller_cancelled_in_the_moment_it_is_granted_gives_the_lease_back(
    arbiter: Arbiter[Runtime],
) -> None:
    async with arbiter.lease("tts"):
        second = Holder(arbiter, "tts")
        await settle()
    assert state(arbiter, "tts").leases == 1  # granted to the second, who does not know it yet
    second.task.cancel()
    await settle()

    assert not second.entered.is_set()
    assert state(arbiter, "tts").leases == 0


async def test_a_caller_cancelled_just_before_it_would_be_granted_leaves_no_lease(arbiter: Arbiter[Runtime]) -> None:
    async with arbiter.lease("tts"):
        second = Holder(arbiter, "tts")
        await settle()
        second.task.cancel()
    await settle()

    assert state(arbiter, "tts").leases == 0


async def test_a_caller_cancelled_in_the_moment_it_is_refused_leaves_no_complaint(
    arbiter: Arbiter[Runtime], loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    callers: list[Holder] = []

    async def fails(model: str) -> None:
        asyncio.get_running_loop().call_soon(callers[0].task.cancel)
        raise OSError

    loader.on_load = fails
    callers.append(Holder(arbiter, "llm"))
    with pytest.raises(asyncio.CancelledError):
        await callers[0].task

    gc.collect()
    assert "never retrieved" not in caplog.text
    assert state(arbiter, "llm").waiting == 0


async def test_a_caller_cancelled_just_before_it_would_be_refused_only_sees_that_it_was_cancelled(
    arbiter: Arbiter[Runtime],
) -> None:
    async with arbiter.lease("tts"):
        second = Holder(arbiter, "tts")
        await settle()
        second.task.cancel()
        await arbiter.stop(limit_s=0)

    with pytest.raises(asyncio.CancelledError):
        await second.task


async def test_releasing_does_not_wait_and_so_survives_a_cancelled_task(arbiter: Arbiter[Runtime]) -> None:
    caller = Holder(arbiter, "llm")
    await caller.entered.wait()

    caller.task.cancel()
    await asyncio.wait([caller.task])

    assert state(arbiter, "llm").leases == 0


async def test_a_storm_of_callers_of_whom_half_hang_up_ends_with_no_lease(
    arbiter: Arbiter[Runtime], loader: FakeLoader
) -> None:
    dice = random.Random(7)

    async def takes_a_while(model: str) -> None:
        await asyncio.sleep(dice.random() * 3)

    async def call() -> None:
        await asyncio.sleep(dice.random() * 30)
        with suppress(QueueFull):
            async with arbiter.lease(dice.choice(("asr", "tts", "llm", "large"))) as runtime:
                assert runtime.model in loader.present
                await asyncio.sleep(dice.random() * 4)

    loader.on_load = loader.on_unload = takes_a_while
    callers = [asyncio.create_task(call()) for _ in range(200)]
    for caller in callers[::2]:
        asyncio.get_running_loop().call_later(dice.random() * 40, caller.cancel)
    results = await asyncio.gather(*callers, return_exceptions=True)

    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert sum(each.leases + each.waiting for each in arbiter.snapshot().models) == 0
    await arbiter.stop(limit_s=60)
    assert loader.present == set()


# Loads that go wrong.


async def test_an_exception_of_the_loader_reaches_every_waiter_unchanged(
    arbiter: Arbiter[Runtime], loader: FakeLoader
) -> None:
    class WeightsMissing(Exception):
        pass

    async def fails(model: str) -> None:
        raise WeightsMissing

    loader.on_load = fails
    results = await asyncio.gather(use(arbiter, "llm"), use(arbiter, "llm"), return_exceptions=True)

    assert [type(result) for result in results] == [WeightsMissing] * 2
    loader.on_load = nothing
    await use(arbiter, "llm")


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemory("llm", 1)])
async def test_out_of_memory_evicts_the_idle_and_tries_once_more(
    arbiter: Arbiter[Runtime], loader: FakeLoader, error: Exception
) -> None:
    async def fails_beside_another(model: str) -> None:
        if loader.present:
            raise error

    loader.on_load = fails_beside_another
    await use(arbiter, "asr", "llm")

    assert loader.did == ["load asr", "load llm", "unload asr", "load llm"]


async def test_out_of_memory_on_an_empty_device_is_refused_for_good(
    arbiter: Arbiter[Runtime], loader: FakeLoader
) -> None:
    async def fails(model: str) -> None:
        raise MemoryError

    loader.on_load = fails
    with pytest.raises(NeverFits) as refused:
        await use(arbiter, "llm")

    assert isinstance(refused.value.__cause__, MemoryError)
    assert loader.did == ["load llm"] * 2
    assert isinstance(arbiter.refusal("llm"), NeverFits)


async def test_a_panic_of_native_code_is_a_failed_load(arbiter: Arbiter[Runtime], loader: FakeLoader) -> None:
    class Panic(BaseException):
        pass

    async def panics(model: str) -> None:
        raise Panic

    loader.on_load = panics
    with pytest.raises(LoadFailed) as refused:
        await use(arbiter, "llm")

    assert isinstance(refused.value.__cause__, Panic)


async def test_a_load_that_hangs_is_given_up_and_unloaded_when_it_returns_after_all(
    arbiter: Arbiter[Runtime], loader: FakeLoader
) -> None:
    gate = asyncio.Event()

    async def hangs(model: str) -> None:
        await gate.wait()

    loader.on_load = hangs
    started_s = asyncio.get_running_loop().time()
    with pytest.raises(LoadFailed) as refused:
        await use(arbiter, "llm")
    assert isinstance(refused.value.__cause__, TimeoutError)
    assert asyncio.get_running_loop().time() - started_s == pytest.approx(600)
    assert isinstance(arbiter.refusal("llm"), LoadFailed)

    gate.set()
    await settle()

    assert loader.did == ["load llm", "unload llm"]
    assert arbiter.refusal("llm") is None


async def test_an_unload_that_fails_is_logged_and_the_model_counts_as_gone(
    arbiter: Arbiter[Runtime], loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(model: str) -> None:
        raise OSError("stubborn")

    loader.on_unload = fails
    await use(arbiter, "llm", "large")

    assert "unloading llm failed: OSError" in caplog.text


# Memory.


async def test_what_a_load_took_is_kept_in_the_ledger(loader: FakeLoader, ledger: Ledger) -> None:
    arbiter = arbiter_of(loader, ledger, FakeGpu(loader, {"llm": 7 * GB, "tts": 1 * GB}))
    await arbiter.start()

    await use(arbiter, "llm", "tts")

    assert ledger.figures(MODELS["llm"]).measured_bytes == 7 * GB
    assert ledger.figures(MODELS["tts"]).measured_bytes == 1 * GB
    assert arbiter.snapshot().available_bytes == 8 * GB


async def test_loads_at_the_same_time_are_not_told_apart_and_so_not_measured(
    loader: FakeLoader, ledger: Ledger
) -> None:
    arbiter = arbiter_of(loader, ledger, FakeGpu(loader, {"llm": 7 * GB, "tts": 1 * GB}))
    await arbiter.start()

    await asyncio.gather(use(arbiter, "llm"), use(arbiter, "tts"))

    assert ledger.figures(MODELS["llm"]).measured_bytes is None
    assert ledger.figures(MODELS["tts"]).measured_bytes is None


async def test_what_a_model_that_serves_takes_up_meanwhile_is_not_laid_to_a_load(
    loader: FakeLoader, ledger: Ledger
) -> None:
    gpu = FakeGpu(loader, {"llm": 7 * GB, "tts": 1 * GB})
    arbiter = arbiter_of(loader, ledger, gpu)
    await arbiter.start()

    async def others_grow(model: str) -> None:
        gpu.sizes["llm"] += 2 * GB

    async with arbiter.lease("llm"):
        loader.on_load = others_grow
        await use(arbiter, "tts")

    assert ledger.figures(MODELS["tts"]).measured_bytes is None
    assert arbiter.snapshot().available_bytes == 6 * GB


async def test_memory_that_comes_back_late_is_waited_for_before_more_is_evicted(
    loader: FakeLoader, ledger: Ledger
) -> None:
    gpu = FakeGpu(loader, {"asr": 4 * GB, "llm": 9 * GB, "middle": 7 * GB})
    arbiter = arbiter_of(loader, ledger, gpu)
    await arbiter.start()

    async def returns_late(model: str) -> None:
        gpu.left_behind = gpu.sizes[model]
        asyncio.get_running_loop().call_later(0.5, setattr, gpu, "left_behind", 0)

    loader.on_unload = returns_late
    await use(arbiter, "asr", "llm", "middle")

    assert loader.did == ["load asr", "load llm", "unload llm", "load middle"]
    assert arbiter.snapshot().unreturned_bytes == 0


async def test_what_an_unload_leaves_behind_counts_as_used_and_is_reported_once(
    loader: FakeLoader, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu(loader, {"asr": 4 * GB, "llm": 9 * GB, "large": 13 * GB})
    arbiter = arbiter_of(loader, ledger, gpu)
    await arbiter.start()

    async def leaks(model: str) -> None:
        if model == "llm":
            gpu.left_behind = 2 * GB

    loader.on_unload = leaks
    await use(arbiter, "llm", "large", "llm", "large")

    assert arbiter.snapshot().unreturned_bytes == 2 * GB
    reports = [record.getMessage() for record in caplog.records if "belong to no model" in record.getMessage()]
    assert reports == ["after unloading llm, 2.00 GB are held that belong to no model: counted as used"]


async def test_a_waiter_gets_the_memory_that_another_process_gives_back(loader: FakeLoader, ledger: Ledger) -> None:
    gpu = FakeGpu(loader, {"llm": 9 * GB})
    gpu.others = 12 * GB
    arbiter = arbiter_of(loader, ledger, gpu)
    await arbiter.start()
    asyncio.get_running_loop().call_later(10, setattr, gpu, "others", 0)

    await use(arbiter, "llm")

    assert 10 <= asyncio.get_running_loop().time() <= 10.5


# A device that does not answer.


async def test_while_the_device_does_not_answer_what_is_loaded_is_served_and_nothing_is_loaded(
    loader: FakeLoader, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu(loader, {"llm": 9 * GB, "tts": 2 * GB})
    arbiter = arbiter_of(loader, ledger, gpu)
    await arbiter.start()
    await use(arbiter, "llm")
    gpu.answers = False

    for _ in range(2):
        with pytest.raises(DeviceLost, match="fake does not answer"):
            await use(arbiter, "tts")
    await use(arbiter, "llm")

    assert arbiter.snapshot().device_error == "fake does not answer"
    assert isinstance(arbiter.refusal("tts"), DeviceLost)
    assert arbiter.refusal("llm") is None
    assert loader.did == ["load llm"]
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1


async def test_a_device_that_answers_again_is_noticed_without_anybody_asking(
    loader: FakeLoader, ledger: Ledger
) -> None:
    gpu = FakeGpu(loader, {"llm": 9 * GB})
    gpu.answers = False
    arbiter = arbiter_of(loader, ledger, gpu)
    await arbiter.start()
    assert arbiter.snapshot().device_error is not None

    gpu.answers = True
    await asyncio.sleep(DEVICE_RECHECK_S)

    assert arbiter.snapshot().device_error is None
    await use(arbiter, "llm")


async def test_a_device_lost_during_a_load_costs_the_measurement_and_not_the_model(
    loader: FakeLoader, ledger: Ledger
) -> None:
    gpu = FakeGpu(loader, {"llm": 9 * GB})
    arbiter = arbiter_of(loader, ledger, gpu)
    await arbiter.start()

    async def lost(model: str) -> None:
        gpu.answers = False

    loader.on_load = lost
    await use(arbiter, "llm")

    assert state(arbiter, "llm").phase == "resident"
    assert ledger.figures(MODELS["llm"]).measured_bytes is None


# Out of memory while serving.


async def test_running_out_of_memory_while_serving_is_a_503_and_the_model_is_loaded_afresh(
    loader: FakeLoader, ledger: Ledger
) -> None:
    seen = Seen()
    arbiter = arbiter_of(loader, ledger, observer=seen)
    await arbiter.start()

    with pytest.raises(OutOfMemory) as refused:
        async with arbiter.lease("llm"):
            raise MemoryError("out of memory")

    assert isinstance(refused.value.__cause__, MemoryError)
    await settle()
    assert state(arbiter, "llm").phase == "absent"
    assert state(arbiter, "llm").bytes == 9.9 * GB
    assert seen.facts[-2:] == [("out_of_memory", "llm"), ("evicted", "llm", "reload")]
    await use(arbiter, "llm")
    assert loader.did == ["load llm", "unload llm", "load llm"]


async def test_others_on_a_model_that_ran_out_of_memory_are_served_to_their_end_and_the_waiting_afterwards(
    arbiter: Arbiter[Runtime], loader: FakeLoader
) -> None:
    other = Holder(arbiter, "llm")
    await other.entered.wait()
    with pytest.raises(OutOfMemory):
        async with arbiter.lease("llm"):
            raise OutOfMemory("llm", 1)
    waiting = Holder(arbiter, "llm")
    await settle()
    assert not waiting.entered.is_set()
    assert loader.did == ["load llm"]

    other.let_go.set()
    await waiting.entered.wait()

    assert loader.did == ["load llm", "unload llm", "load llm"]
    waiting.let_go.set()
    await waiting.task


# Peaks.


async def test_what_a_model_holds_at_its_most_is_what_its_next_load_is_charged(
    loader: FakeLoader, ledger: Ledger
) -> None:
    gpu = FakeGpu(loader, {"llm": 9 * GB, "tts": 2 * GB})
    arbiter = arbiter_of(loader, ledger, gpu)
    await arbiter.start()
    await use(arbiter, "tts")

    async with arbiter.lease("llm"):
        gpu.sizes["llm"] = 11 * GB

    assert state(arbiter, "llm").bytes == 11 * GB
    assert state(arbiter, "llm").measured_bytes == 11 * GB
    assert arbiter.snapshot().unreturned_bytes == 0
    assert ledger.bytes_for(MODELS["llm"]) == 11 * GB


async def test_when_several_models_serve_growth_is_nobodys_and_counts_as_used(
    loader: FakeLoader, ledger: Ledger
) -> None:
    gpu = FakeGpu(loader, {"llm": 9 * GB, "tts": 2 * GB})
    arbiter = arbiter_of(loader, ledger, gpu)
    await arbiter.start()
    await use(arbiter, "llm")

    async with arbiter.lease("tts"), arbiter.lease("llm"):
        gpu.sizes["llm"] = 11 * GB

    assert state(arbiter, "llm").measured_bytes == 9 * GB
    assert arbiter.snapshot().available_bytes == 3 * GB


# Load, unload, pin.


async def test_load_makes_a_model_resident_and_evicts_like_a_request(
    arbiter: Arbiter[Runtime], loader: FakeLoader
) -> None:
    await arbiter.load("llm")
    await arbiter.load("llm")
    await arbiter.load("large")

    assert loader.did == ["load llm", "unload llm", "load large"]
    assert state(arbiter, "large").leases == 0


async def test_load_does_not_wait_for_a_resident_model_that_is_full(arbiter: Arbiter[Runtime]) -> None:
    holder = Holder(arbiter, "tts")
    await holder.entered.wait()

    await arbiter.load("tts")

    holder.let_go.set()
    await holder.task


async def test_load_is_refused_like_a_lease(arbiter: Arbiter[Runtime]) -> None:
    with pytest.raises(NeverFits):
        await arbiter.load("monster")
    with pytest.raises(KeyError):
        await arbiter.load("unknown")


async def test_unload_ends_when_the_model_is_gone(arbiter: Arbiter[Runtime], loader: FakeLoader) -> None:
    async def takes_time(model: str) -> None:
        await asyncio.sleep(3)

    loader.on_unload = takes_time
    await arbiter.load("llm")
    await asyncio.gather(arbiter.unload("llm"), arbiter.unload("llm"))

    assert state(arbiter, "llm").phase == "absent"
    assert loader.did == ["load llm", "unload llm"]
    await arbiter.unload("llm")  # it is not there: nothing to do


async def test_a_model_that_is_of_use_is_not_unloaded(arbiter: Arbiter[Runtime]) -> None:
    async with arbiter.lease("llm"):
        with pytest.raises(Busy, match="llm serves at present"):
            await arbiter.unload("llm")
    with pytest.raises(KeyError):
        await arbiter.unload("unknown")


async def test_an_unload_that_hangs_is_not_waited_for_for_ever(arbiter: Arbiter[Runtime], loader: FakeLoader) -> None:
    async def hangs(model: str) -> None:
        await asyncio.sleep(10_000)

    loader.on_unload = hangs
    await arbiter.load("llm")

    with pytest.raises(Busy, match="hangs in unloading"):
        await arbiter.unload("llm")
    with pytest.raises(Busy, match="hangs in unloading"):
        await arbiter.unload("llm")


async def test_a_pinned_model_stays_until_it_is_unpinned(arbiter: Arbiter[Runtime], loader: FakeLoader) -> None:
    await arbiter.load("llm")
    arbiter.pin("llm", True)
    waiting = Holder(arbiter, "large")
    await settle()
    assert loader.did == ["load llm"]

    arbiter.pin("llm", False)
    await waiting.entered.wait()

    assert loader.did == ["load llm", "unload llm", "load large"]
    waiting.let_go.set()
    await waiting.task
    with pytest.raises(KeyError):
        arbiter.pin("unknown", True)


# Preload, and unloading the idle.


async def test_preload_goes_by_priority_one_after_the_other_and_evicts_nothing(
    loader: FakeLoader, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    models = {each.id: replace(each, preload=each.id != "tts") for each in MODELS.values()}
    arbiter = arbiter_of(loader, ledger, models=models)
    most = 0

    async def counted(model: str) -> None:
        nonlocal most
        most = max(most, sum(each.phase == "loading" for each in arbiter.snapshot().models))
        if model == "llm":
            raise OSError
        await asyncio.sleep(1)

    loader.on_load = counted
    await arbiter.start()
    await asyncio.sleep(10)

    assert loader.did == ["load asr", "load llm", "load middle"]
    assert most == 1
    assert [record.getMessage() for record in caplog.records if "preloaded" in record.getMessage()] == [
        "llm was not preloaded: OSError",
        "large is not preloaded: it takes 13.00 GB, and 5.00 GB are free",
        "monster is not preloaded: it takes 17.00 GB, and 5.00 GB are free",
    ]


async def test_stopping_ends_the_preload(loader: FakeLoader, ledger: Ledger) -> None:
    models = {each.id: replace(each, preload=True) for each in MODELS.values()}

    async def takes_time(model: str) -> None:
        await asyncio.sleep(5)

    loader.on_load = takes_time
    arbiter = arbiter_of(loader, ledger, models=models)
    await arbiter.start()
    await settle()
    await arbiter.stop(limit_s=20)

    assert loader.did == ["load asr", "unload asr"]


async def test_an_idle_model_is_unloaded_after_its_idle_unload_s(loader: FakeLoader, ledger: Ledger) -> None:
    seen = Seen()
    models = MODELS | {"llm": replace(MODELS["llm"], idle_unload_s=300)}
    arbiter = arbiter_of(loader, ledger, models=models, observer=seen)
    await arbiter.start()
    await use(arbiter, "llm")
    await asyncio.sleep(200)
    await use(arbiter, "llm")

    await asyncio.sleep(299)
    assert state(arbiter, "llm").phase == "resident"
    await asyncio.sleep(2)

    assert state(arbiter, "llm").phase == "absent"
    assert seen.facts[-1] == ("evicted", "llm", "idle")


async def test_a_request_that_arrives_while_its_model_expires_gets_it_loaded_again(
    loader: FakeLoader, ledger: Ledger
) -> None:
    async def takes_time(model: str) -> None:
        await asyncio.sleep(2)

    loader.on_unload = takes_time
    arbiter = arbiter_of(loader, ledger, models=MODELS | {"llm": replace(MODELS["llm"], idle_unload_s=300)})
    await arbiter.start()
    await use(arbiter, "llm")
    await asyncio.sleep(301)
    assert state(arbiter, "llm").phase == "unloading"

    await use(arbiter, "llm")

    assert loader.did == ["load llm", "unload llm", "load llm"]


# What people see.


async def test_a_lease_that_waits_tells_what_for(loader: FakeLoader, ledger: Ledger) -> None:
    async def takes_time(model: str) -> None:
        await asyncio.sleep(10)

    loader.on_load = takes_time
    arbiter = arbiter_of(loader, ledger)
    await arbiter.start()
    await use(arbiter, "llm")
    await arbiter.unload("llm")
    lease = arbiter.lease("llm")
    assert lease.wait() is None

    async def enter() -> None:
        async with lease:
            assert lease.wait() is None

    entering = asyncio.create_task(enter())
    await asyncio.sleep(2.5)

    assert lease.wait() == Wait(position=1, waiting_for="load", load_percent=25, expected_s=7.5)
    assert state(arbiter, "llm").load_percent == 25
    assert state(arbiter, "llm").queue == (lease.wait(),)
    await entering
    assert lease.wait() is None


async def test_the_observer_is_told_of_every_load_eviction_grant_and_refusal(
    loader: FakeLoader, ledger: Ledger
) -> None:
    async def takes_time(model: str) -> None:
        await asyncio.sleep(10)

    seen = Seen()
    loader.on_load = takes_time
    arbiter = arbiter_of(loader, ledger, FakeGpu(loader, {"llm": 8 * GB, "large": 13 * GB}), observer=seen)
    await arbiter.start()
    await use(arbiter, "llm", "large")
    with suppress(NeverFits):
        await use(arbiter, "monster")
    await arbiter.stop(limit_s=20)

    assert seen.facts == [
        ("loaded", "llm", 10, 9 * GB, 8 * GB),
        ("granted", "llm", 10),
        ("evicted", "llm", "room"),
        ("loaded", "large", 10, 13 * GB, 13 * GB),
        ("granted", "large", 10),
        ("refused", "monster", "never_fits"),
        ("evicted", "large", "stopping"),
    ]


async def test_the_observer_is_told_of_both_times_that_a_load_ran_out_of_memory_and_of_a_loaders_own_error(
    loader: FakeLoader, ledger: Ledger
) -> None:
    errors = iter([MemoryError(), MemoryError(), OSError()])

    async def fails(model: str) -> None:
        raise next(errors)

    seen = Seen()
    loader.on_load = fails
    arbiter = arbiter_of(loader, ledger, observer=seen)
    await arbiter.start()
    for model in ("llm", "tts"):
        with suppress(NeverFits, OutOfMemory, OSError):
            await use(arbiter, model)

    assert seen.facts == [
        ("out_of_memory", "llm"),
        ("out_of_memory", "llm"),
        ("refused", "llm", "never_fits"),
        ("refused", "tts", "error"),
    ]


# The end.


@pytest.mark.parametrize("when", ["loading", "serving", "unloading"])
async def test_a_device_that_failed_ends_everything_once_whenever_it_is_seen(
    loader: FakeLoader, ledger: Ledger, when: str
) -> None:
    async def fails(model: str) -> None:
        raise DeviceFailed("CUDA error: device-side assert triggered")

    ends: list[str] = []
    arbiter = arbiter_of(loader, ledger, on_failure=lambda: ends.append("failed"))
    await arbiter.start()
    serving = Holder(arbiter, "asr")
    await serving.entered.wait()
    await use(arbiter, "llm")
    waiting = Holder(arbiter, "large")
    await settle()
    if when == "loading":
        loader.on_load = fails
        with pytest.raises(DeviceFailed):
            await use(arbiter, "tts")
    elif when == "serving":
        with pytest.raises(DeviceFailed):
            async with arbiter.lease("llm"):
                await fails("llm")
    loader.on_unload = fails
    if when == "unloading":
        await arbiter.unload("llm")
    await settle()

    assert ends == ["failed"]
    with pytest.raises(Stopping):
        await waiting.task
    with pytest.raises(Stopping):
        await use(arbiter, "asr")
    assert state(arbiter, "llm").phase == "absent"
    serving.let_go.set()
    await serving.task


async def test_stop_waits_for_the_busy_refuses_the_waiting_and_unloads_everything(
    arbiter: Arbiter[Runtime], loader: FakeLoader
) -> None:
    await use(arbiter, "asr")
    holder = Holder(arbiter, "llm")
    await holder.entered.wait()
    waiting = Holder(arbiter, "large")
    await settle()

    stopping = asyncio.create_task(arbiter.stop(limit_s=20))
    await settle()
    with pytest.raises(Stopping):
        await waiting.task
    with pytest.raises(Stopping):
        await use(arbiter, "asr")
    assert loader.present == {"llm"}
    holder.let_go.set()
    await stopping

    assert loader.present == set()


async def test_stop_ends_at_its_limit_and_cancels_what_still_loads(
    arbiter: Arbiter[Runtime], loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    async def hangs(model: str) -> None:
        await asyncio.Event().wait()

    holder = Holder(arbiter, "asr")
    await holder.entered.wait()
    loader.on_load = hangs
    loading = Holder(arbiter, "llm")
    await settle()

    await arbiter.stop(limit_s=20)

    assert asyncio.get_running_loop().time() == pytest.approx(20, abs=2)
    assert "still on the device: asr, llm" in caplog.text
    assert [each.id for each in arbiter.snapshot().models if each.phase != "absent"] == ["asr"]
    with pytest.raises(Stopping):
        await loading.task
    holder.let_go.set()
    await holder.task


async def test_stopping_what_never_started_anything_is_immediate(arbiter: Arbiter[Runtime]) -> None:
    await arbiter.stop(limit_s=20)
    await arbiter.stop(limit_s=20)

    assert asyncio.get_running_loop().time() == 0
