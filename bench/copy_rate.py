"""How fast bytes get onto the device: from the disk, from the page cache, from pageable and from pinned memory."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_COPIED_BYTES = 512 * 2**20

_READ_BYTES = 4 * 10**9
"""Of the file, at most."""

_BLOCK_BYTES = 16 * 2**20

_REPEATS = 5


@dataclass(frozen=True, slots=True)
class CopyRates:
    """Bytes a second.

    disk: the first time that a file is read, as far as the system forgets it when asked; cached: the second time
    pageable, pinned: from such memory to the device
    """

    disk: float
    cached: float
    pageable: float
    pinned: float


def copy_rates(path: Path, device: str = "cuda") -> CopyRates:
    """path: a file of some GB. The device's memory is given back."""
    disk, cached = _read_rate(path, forget=True), _read_rate(path, forget=False)
    return CopyRates(disk, cached, _copy_rate(device, pinned=False), _copy_rate(device, pinned=True))


def _read_rate(path: Path, *, forget: bool) -> float:
    block = memoryview(bytearray(_BLOCK_BYTES))
    read_bytes = 0
    with path.open("rb", buffering=0) as file:
        if forget:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started_s = time.perf_counter()
        while read_bytes < _READ_BYTES and (count := file.readinto(block)):
            read_bytes += count
        return read_bytes / (time.perf_counter() - started_s)


def _copy_rate(device: str, *, pinned: bool) -> float:
    """The median of a few, after one that does not count."""
    import torch

    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, pin_memory=pinned)
    target = torch.empty(_COPIED_BYTES, dtype=torch.uint8, device=device)
    took_s = []
    for _ in range(_REPEATS + 1):
        started_s = time.perf_counter()
        target.copy_(source)
        if target.is_cuda:
            torch.cuda.synchronize()
        took_s.append(time.perf_counter() - started_s)
    del source, target
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return _COPIED_BYTES / median(took_s[1:])
