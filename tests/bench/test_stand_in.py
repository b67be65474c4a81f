"""A checkpoint that is held and computed with, without a model."""

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from bench.stand_in import StandIn


async def test_it_holds_every_tensor_as_it_is_stored_and_computes_with_each(tmp_path: Path) -> None:
    first = {"a": torch.ones(3, 4).to(torch.float8_e4m3fn), "blocks": torch.ones(2, 3, 4, 16, dtype=torch.uint8)}
    other = {"a": torch.ones(5), "kernel": torch.ones(4, 1, 3, dtype=torch.bfloat16)}
    files = {tmp_path / "first.safetensors": first, tmp_path / "other.safetensors": other}
    for path, tensors in files.items():
        save_file(tensors, path)
    runtime = StandIn("example")
    await runtime.open(list(files), "cpu")

    held = sorted((tuple(tensor.shape), tensor.dtype) for tensor in runtime._tensors)
    assert len(held) == 4
    assert ((3, 4), torch.float8_e4m3fn) in held
    await runtime.compute()

    await runtime.close()
    assert runtime._tensors == []


async def test_what_went_wrong_is_raised(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no")
    runtime = StandIn("example")
    with pytest.raises(SafetensorError):
        await runtime.open([tmp_path / "a.safetensors"], "cpu")
    await runtime.close()
