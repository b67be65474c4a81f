"""What there is: a GPU through NVML, or a fixed budget where there is none."""

import ctypes
import importlib
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

_CUDA_ERROR_NO_DEVICE = 100
_CUDA_ERROR_INVALID_DEVICE = 101
"""What the driver's cuda.h calls them."""


class DeviceError(Exception):
    """The device cannot be used as asked, or it stopped answering. The message says what to do."""


class NoGpu(DeviceError):
    """NVML is not there, or sees no GPU."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The device's memory at one moment, in bytes.

    used_bytes: held by all processes
    own_bytes: held by this process; None where the driver does not tell, as in a container with its own process ids or
        on WSL
    """

    total_bytes: int
    used_bytes: int
    own_bytes: int | None


class Device(Protocol):
    """Where models live.

    budget_bytes: what models may use together
    """

    @property
    def name(self) -> str: ...

    @property
    def budget_bytes(self) -> int: ...

    def read(self) -> Reading | None:
        """The memory as it is now; None where nothing can be measured. Raises DeviceError."""


@dataclass(frozen=True, slots=True)
class FixedBudget:
    """No GPU: models share a number of bytes, and nothing is measured."""

    budget_bytes: int
    name: str = "cpu"

    def read(self) -> None:
        return None


class NvmlDevice:
    """The GPU that CUDA puts first, which is the one that every runtime uses.

    budget_bytes: stay below the card's own size; None takes all of it
    nvml: the pynvml module, imported when it is None
    cuda: the driver's library, found when it is None

    Raises NoGpu when there is none, and DeviceError when the budget is larger than the card or the card cannot be used.
    """

    def __init__(self, budget_bytes: int | None = None, nvml: Any = None, cuda: Any = None) -> None:
        try:
            self._nvml = nvml or importlib.import_module("pynvml")
        except ImportError:
            raise NoGpu("nvidia-ml-py is not installed, so no GPU can be seen") from None
        try:
            self._nvml.nvmlInit()
            self._uuid = first_gpu(cuda)
            self._handle: Any = self._find()
            self.name: str = self._nvml.nvmlDeviceGetName(self._handle)
            total_bytes: int = self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total
        except self._nvml.NVMLError as error:
            raise NoGpu(f"no NVIDIA GPU answers: {error}") from error
        if budget_bytes is not None and budget_bytes > total_bytes:
            raise DeviceError(
                f"llmux.budget is {budget_bytes / 1e9:.1f} GB, but {self.name} has {total_bytes / 1e9:.1f} GB"
            )
        self.budget_bytes = total_bytes if budget_bytes is None else budget_bytes

    def read(self) -> Reading:
        nvml = self._nvml
        try:
            if self._handle is None:
                nvml.nvmlInit()
                self._handle = self._find()
            # The first version of this call: its `used` holds what the driver reserves too. The second leaves that
            # out, and then total less used is more than can be had.
            memory = nvml.nvmlDeviceGetMemoryInfo(self._handle)
            own_bytes = self._own_bytes()
        except nvml.NVMLError as error:
            self._close()
            raise DeviceError(f"{self.name} does not answer: {error}") from error
        return Reading(total_bytes=memory.total, used_bytes=memory.used, own_bytes=own_bytes)

    def _own_bytes(self) -> int | None:
        nvml = self._nvml
        try:
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLLibraryMismatchError):
            return None  # a virtual GPU, WSL, a sandbox, an old driver: the card as a whole is told all the same
        own = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
        return sum(own) if own and None not in own else None

    def _find(self) -> Any:
        """NVML counts by slot and CUDA by speed, by CUDA_VISIBLE_DEVICES, or by slices (MIG): only the UUID is common.
        Where NVML spells it in no way that we know, a GPU that is alone is meant.
        """
        nvml = self._nvml
        for kind in ("GPU", "MIG"):
            with suppress(nvml.NVMLError):
                return nvml.nvmlDeviceGetHandleByUUID(f"{kind}-{self._uuid}")
        if nvml.nvmlDeviceGetCount() > 1:
            self._close()
            raise DeviceError(f"CUDA's first GPU is {self._uuid}, which NVML does not find among several")
        return nvml.nvmlDeviceGetHandleByIndex(0)

    def _close(self) -> None:
        """So that the next read begins afresh: a driver that was reloaded knows nothing of who spoke to it before, and
        NVML takes a second nvmlInit without a shutdown between for a repetition.
        """
        self._handle = None
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()


def find_device(budget_bytes: int | None, nvml: Any = None, cuda: Any = None) -> Device:
    """The GPU if there is one, else a fixed budget. Raises DeviceError when there is neither."""
    try:
        return NvmlDevice(budget_bytes, nvml, cuda)
    except NoGpu as error:
        if budget_bytes is None:
            raise DeviceError(
                f"{error}; set llmux.budget, for example to '16 GB', to run without a GPU that can be measured"
            ) from error
        return FixedBudget(budget_bytes)


def first_gpu(cuda: Any = None) -> UUID:
    """The UUID of CUDA's first device: of a slice, where the card is sliced (MIG). No context is created.

    cuda: the driver's library, found when it is None

    Raises NoGpu when CUDA_VISIBLE_DEVICES leaves none, and DeviceError when CUDA does not start: whoever has a GPU does
    not want its models to end up on the CPU unnoticed.
    """
    try:
        driver = cuda or ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise DeviceError(
            "there is an NVIDIA GPU, but not CUDA's driver library (libcuda.so.1); a container needs "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        ) from None
    device, uuid = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    status = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetUuid_v2(ctypes.byref(uuid), device)
    )
    if status in (_CUDA_ERROR_NO_DEVICE, _CUDA_ERROR_INVALID_DEVICE):
        raise NoGpu("CUDA sees no GPU; CUDA_VISIBLE_DEVICES may hide it")
    if status:
        raise DeviceError(
            f"there is an NVIDIA GPU, but CUDA does not start on it (CUDA error {status}); after a driver update "
            "start the machine again, or hide the GPU with CUDA_VISIBLE_DEVICES= to run without it"
        )
    return UUID(bytes=bytes(uuid))


def open_context(cuda: Any = None) -> bool:
    """Create this process's CUDA context on the first GPU, if it has none. Whether there is one now.

    Every runtime in the process shares it. Made before the first reading, it is the process's own; otherwise the first
    load would be charged for it, and would look that much smaller whenever it is not the first.

    cuda: the driver's library, found when it is None
    """
    try:
        driver = cuda or ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    context = ctypes.c_void_p()
    return bool(driver.cuInit(0) == 0 and driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0)


def grown_bytes(before: Reading, after: Reading, predicted_bytes: int) -> int | None:
    """What a load took, from the readings round it; None when they do not tell.

    Where the driver does not say what this process holds, all of the card's difference is taken for the load, unless
    it is less than half of what was predicted: then the model went elsewhere, and the difference is others' noise.
    """
    if after.own_bytes is not None:
        grown = after.own_bytes - (before.own_bytes or 0)
        return grown if grown > 0 else None
    grown = after.used_bytes - before.used_bytes
    return grown if grown * 2 >= predicted_bytes else None


def shrunk_bytes(before: Reading, after: Reading) -> int:
    """What an unload has given back so far."""
    if before.own_bytes is not None:
        return before.own_bytes - (after.own_bytes or 0)
    return before.used_bytes - after.used_bytes
