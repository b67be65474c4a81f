"""The GPU as NVML tells of it, here by a stand-in for the pynvml module, and a fixed budget without one."""

import os
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

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


class NVMLError(Exception):
    pass


@dataclass
class Nvml:
    """Processes are (pid, bytes) or (pid, None) where the driver does not tell."""

    NVMLError = NVMLError
    total: int = 16 * GB
    used: int = 0
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    broken: bool = False
    opened: int = 0

    def nvmlInit(self) -> None:
        if self.broken:
            raise NVMLError("driver not loaded")
        self.opened += 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA Example"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        if self.broken:
            raise NVMLError("GPU is lost")
        return SimpleNamespace(total=self.total, used=self.used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes]


def test_the_whole_card_is_the_budget_unless_one_is_set() -> None:
    assert NvmlDevice(None, Nvml()).budget_bytes == 16 * GB
    assert NvmlDevice(12 * GB, Nvml()).budget_bytes == 12 * GB
    assert NvmlDevice(None, Nvml()).name == "NVIDIA Example"


def test_a_budget_above_the_card_is_refused_with_both_sizes() -> None:
    with pytest.raises(DeviceError, match=r"llmux\.budget is 24\.0 GB, but NVIDIA Example has 16\.0 GB"):
        find_device(24 * GB, Nvml())


def test_this_process_and_others_are_told_apart() -> None:
    nvml = Nvml(used=10 * GB, processes=[(os.getpid() + 1, 3 * GB), (os.getpid(), 7 * GB)])

    assert NvmlDevice(None, nvml).read() == Reading(total_bytes=16 * GB, used_bytes=10 * GB, own_bytes=7 * GB)


@pytest.mark.parametrize("processes", [[], [(os.getpid() + 1, 3 * GB)], [(os.getpid(), None)]])
def test_where_the_driver_does_not_tell_what_is_ours_is_unknown(processes: list[tuple[int, int | None]]) -> None:
    assert NvmlDevice(None, Nvml(used=10 * GB, processes=processes)).read().own_bytes is None


def test_a_gpu_that_stops_answering_is_an_error_that_names_it() -> None:
    nvml = Nvml()
    device = NvmlDevice(None, nvml)
    nvml.broken = True

    with pytest.raises(DeviceError, match="NVIDIA Example does not answer: GPU is lost"):
        device.read()


def test_a_gpu_that_answers_again_is_opened_afresh() -> None:
    nvml = Nvml(used=GB)
    device = NvmlDevice(None, nvml)
    for error in ("GPU is lost", "driver not loaded"):
        nvml.broken = True
        with pytest.raises(DeviceError, match=error):
            device.read()
    nvml.broken = False

    assert device.read().used_bytes == GB
    assert nvml.opened == 2


def test_a_gpu_is_taken_where_there_is_one() -> None:
    assert isinstance(find_device(None, Nvml()), NvmlDevice)
    assert find_device(12 * GB, Nvml()).budget_bytes == 12 * GB


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


@dataclass
class Cuda:
    """The driver's library: each call returns 0 when it went well."""

    initialised: int = 0
    retained: int = 0

    def cuInit(self, flags: int) -> int:
        return self.initialised

    def cuDevicePrimaryCtxRetain(self, context: object, device: int) -> int:
        assert device == 0
        return self.retained


def test_the_context_is_there_when_the_driver_says_so() -> None:
    assert open_context(Cuda())
    assert not open_context(Cuda(initialised=100))
    assert not open_context(Cuda(retained=2))


def test_without_a_driver_there_is_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("vram.device.ctypes.CDLL", missing)

    assert not open_context()
