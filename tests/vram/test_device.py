"""The GPU as NVML tells of it, here by a stand-in for the pynvml module, and a fixed budget without one."""

import os
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from vram.device import (
    DeviceError,
    FixedBudget,
    NvmlDevice,
    Reading,
    find_device,
    grown_bytes,
    open_context,
    shrunk_bytes,
)

GB = 10**9


FIRST = UUID("11111111-2222-3333-4444-555555555555")
OTHER = UUID("66666666-7777-8888-9999-000000000000")
RESERVED = GB // 4


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_NoPermission(NVMLError):
    pass


class NVMLLibraryMismatchError(Exception):
    """Not an NVMLError in pynvml either."""


@dataclass
class Nvml:
    """Handles are indices into gpus.

    gpus: the UUIDs as NVML spells them, by slot
    processes: (pid, bytes) or (pid, None) where the driver does not tell, or what is raised instead
    """

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_NoPermission = NVMLError_NoPermission
    NVMLLibraryMismatchError = NVMLLibraryMismatchError
    total: int = 16 * GB
    used: int = 0
    processes: list[tuple[int, int | None]] | Exception = field(default_factory=list)
    gpus: tuple[str, ...] = (f"GPU-{FIRST}",)
    broken: bool = False
    unreadable: bool = False
    opened: int = 0
    starts: int = 0

    def nvmlInit(self) -> None:
        if self.broken:
            raise NVMLError("driver not loaded")
        self.starts += self.opened == 0
        self.opened += 1

    def nvmlShutdown(self) -> None:
        if not self.opened:
            raise NVMLError("uninitialized")
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        if uuid not in self.gpus:
            raise NVMLError("not found")
        return self.gpus.index(uuid)

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"NVIDIA Example {handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int | None = None) -> SimpleNamespace:
        if self.unreadable:
            raise NVMLError_NotSupported("not supported")
        if self.broken:
            raise NVMLError("GPU is lost")
        return SimpleNamespace(total=self.total, used=self.used - (RESERVED if version else 0))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        if isinstance(self.processes, Exception):
            raise self.processes
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes]


@dataclass
class Cuda:
    """The driver's library: each call returns 0 when it went well. uuid: of its first device."""

    uuid: UUID = FIRST
    initialised: int = 0
    found: int = 0
    retained: int = 0

    def cuInit(self, flags: int) -> int:
        return self.initialised

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        assert ordinal == 0
        return self.found

    def cuDeviceGetUuid_v2(self, uuid: Any, device: Any) -> int:
        uuid._obj[:] = self.uuid.bytes
        return 0

    def cuDevicePrimaryCtxRetain(self, context: object, device: int) -> int:
        assert device == 0
        return self.retained


def gpu(nvml: Nvml, budget_bytes: int | None = None, cuda: Cuda | None = None) -> NvmlDevice:
    return NvmlDevice(budget_bytes, nvml, cuda or Cuda())


def test_the_whole_card_is_the_budget_unless_one_is_set() -> None:
    assert gpu(Nvml()).budget_bytes == 16 * GB
    assert gpu(Nvml(), 12 * GB).budget_bytes == 12 * GB
    assert gpu(Nvml()).name == "NVIDIA Example 0"


def test_a_budget_above_the_card_is_refused_with_both_sizes() -> None:
    with pytest.raises(DeviceError, match=r"llmux\.budget is 24\.0 GB, but NVIDIA Example 0 has 16\.0 GB"):
        find_device(24 * GB, Nvml(), Cuda())


@pytest.mark.parametrize("kind", ["GPU", "MIG"])
def test_the_gpu_or_slice_that_cuda_puts_first_is_read_wherever_its_slot_is(kind: str) -> None:
    nvml = Nvml(gpus=(f"GPU-{OTHER}", f"{kind}-{FIRST}"))

    assert gpu(nvml).name == "NVIDIA Example 1"


def test_a_gpu_that_is_alone_needs_no_uuid_that_both_know() -> None:
    assert gpu(Nvml(gpus=("virtual",))).name == "NVIDIA Example 0"


def test_several_gpus_of_which_none_is_cuda_s_first_are_an_error() -> None:
    with pytest.raises(DeviceError, match=f"{FIRST}, which NVML does not find among several"):
        find_device(16 * GB, Nvml(gpus=(f"GPU-{OTHER}", "GPU-x")), Cuda())


@pytest.mark.parametrize("cuda", [Cuda(initialised=100), Cuda(found=101)])
def test_a_gpu_that_is_hidden_from_cuda_is_no_gpu(cuda: Cuda) -> None:
    assert find_device(16 * GB, Nvml(), cuda) == FixedBudget(16 * GB)


def test_a_gpu_on_which_cuda_does_not_start_is_an_error_although_a_budget_is_set() -> None:
    with pytest.raises(DeviceError, match=r"CUDA error 999.*CUDA_VISIBLE_DEVICES="):
        find_device(16 * GB, Nvml(), Cuda(initialised=999))


def test_a_gpu_whose_memory_nobody_tells_needs_a_budget() -> None:
    assert find_device(16 * GB, Nvml(unreadable=True), Cuda()) == FixedBudget(16 * GB)
    with pytest.raises(DeviceError, match=r"not supported; set llmux\.budget"):
        find_device(None, Nvml(unreadable=True), Cuda())


def test_what_the_driver_reserves_is_used() -> None:
    assert gpu(Nvml(used=GB)).read().used_bytes == GB


def test_this_process_and_others_are_told_apart() -> None:
    nvml = Nvml(used=10 * GB, processes=[(os.getpid() + 1, 3 * GB), (os.getpid(), 7 * GB)])

    assert gpu(nvml).read() == Reading(total_bytes=16 * GB, used_bytes=10 * GB, own_bytes=7 * GB)


def test_a_process_that_is_listed_twice_holds_both() -> None:
    nvml = Nvml(used=10 * GB, processes=[(os.getpid(), 4 * GB), (os.getpid(), 3 * GB)])

    assert gpu(nvml).read().own_bytes == 7 * GB


@pytest.mark.parametrize(
    "processes",
    [
        [],
        [(os.getpid() + 1, 3 * GB)],
        [(os.getpid(), None)],
        NVMLError_NotSupported(),
        NVMLError_NoPermission(),
        NVMLLibraryMismatchError(),
    ],
    ids=["nobody", "process ids of another namespace", "WSL", "virtual GPU", "sandbox", "old driver"],
)
def test_where_the_driver_does_not_tell_what_is_ours_is_unknown(
    processes: list[tuple[int, int | None]] | Exception,
) -> None:
    reading = gpu(Nvml(used=10 * GB, processes=processes)).read()

    assert (reading.used_bytes, reading.own_bytes) == (10 * GB, None)


def test_a_gpu_that_is_lost_between_two_questions_is_an_error() -> None:
    with pytest.raises(DeviceError, match="GPU is lost"):
        gpu(Nvml(processes=NVMLError("GPU is lost"))).read()


def test_a_gpu_that_stops_answering_is_an_error_that_names_it() -> None:
    nvml = Nvml()
    device = gpu(nvml)
    nvml.broken = True

    with pytest.raises(DeviceError, match="NVIDIA Example 0 does not answer: GPU is lost"):
        device.read()


def test_a_gpu_that_answers_again_is_opened_afresh() -> None:
    nvml = Nvml(used=GB, gpus=(f"GPU-{OTHER}", f"GPU-{FIRST}"))
    device = gpu(nvml)
    for error in ("GPU is lost", "driver not loaded"):
        nvml.broken = True
        with pytest.raises(DeviceError, match=error):
            device.read()
    nvml.broken = False

    assert device.read().used_bytes == GB
    assert (nvml.starts, nvml.opened) == (2, 1)
    assert device.name == "NVIDIA Example 1"


def test_a_gpu_is_taken_where_there_is_one() -> None:
    assert isinstance(find_device(None, Nvml(), Cuda()), NvmlDevice)
    assert find_device(12 * GB, Nvml(), Cuda()).budget_bytes == 12 * GB


def test_without_a_gpu_the_budget_is_what_was_set_and_nothing_is_measured() -> None:
    device = find_device(16 * GB, Nvml(broken=True))

    assert device.read() is None
    assert device == FixedBudget(16 * GB)


def test_with_neither_gpu_nor_budget_the_error_says_what_to_set() -> None:
    with pytest.raises(DeviceError, match=r"driver not loaded; set llmux\.budget"):
        find_device(None, Nvml(broken=True))


def test_without_the_nvml_package_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert find_device(16 * GB) == FixedBudget(16 * GB)


def reading(used: int, own: int | None = None) -> Reading:
    return Reading(total_bytes=16, used_bytes=used, own_bytes=own)


@pytest.mark.parametrize(
    ("before", "after", "grown"),
    [
        (reading(3, own=2), reading(9, own=7), 5),
        (reading(1), reading(9, own=7), 7),
        (reading(3, own=2), reading(9, own=2), None),
        (reading(1), reading(6), 5),
        (reading(1), reading(2), None),
    ],
    ids=["own", "own, from the first load on", "loaded elsewhere", "card", "noise of others"],
)
def test_what_a_load_took(before: Reading, after: Reading, grown: int | None) -> None:
    assert grown_bytes(before, after, predicted_bytes=6) == grown


def test_what_an_unload_gave_back() -> None:
    assert shrunk_bytes(reading(9, own=7), reading(9, own=2)) == 5
    assert shrunk_bytes(reading(9, own=7), reading(1)) == 7
    assert shrunk_bytes(reading(9), reading(4)) == 5


def test_the_context_is_there_when_the_driver_says_so() -> None:
    assert open_context(Cuda())
    assert not open_context(Cuda(initialised=100))
    assert not open_context(Cuda(retained=2))


def test_without_a_driver_there_is_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("vram.device.ctypes.CDLL", missing)

    assert not open_context()
    with pytest.raises(DeviceError, match=r"libcuda\.so\.1.*NVIDIA_DRIVER_CAPABILITIES"):
        find_device(16 * GB, Nvml())
