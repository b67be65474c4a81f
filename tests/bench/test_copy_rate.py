"""How fast bytes are read and copied, from one part of this machine's memory to another."""

from pathlib import Path

import pytest
import torch

from bench import copy_rate
from bench.copy_rate import copy_rates


def test_every_rate_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_rate, "_COPIED_BYTES", 2**16)
    plain = torch.ones

    def unpinned(*shape: int, pin_memory: bool, dtype: torch.dtype) -> torch.Tensor:
        return plain(*shape, dtype=dtype)  # only a GPU's driver can pin

    monkeypatch.setattr(torch, "ones", unpinned)
    path = tmp_path / "weights"
    path.write_bytes(bytes(2**20))

    rates = copy_rates(path, "cpu")

    assert min(rates.disk, rates.cached, rates.pageable, rates.pinned) > 2**20
