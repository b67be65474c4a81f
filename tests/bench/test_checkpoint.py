"""Random weights on the disk."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench import checkpoint
from bench.checkpoint import Checkpoint, write


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def saved(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def test_the_tensors_have_the_shapes_and_types_that_were_asked_for(tmp_path: Path) -> None:
    wanted = {
        "matrix": meta(3, 5),
        "norm": meta(7),
        "count": meta(dtype=torch.int64),
        "small": meta(2, 2, dtype=torch.float8_e4m3fn),
        "experts_blocks": meta(2, 3, 2, 16, dtype=torch.uint8),
        "experts_scales": meta(2, 3, 2, dtype=torch.uint8),
    }
    made = Checkpoint({"model.safetensors": wanted}, saved)
    write(made, tmp_path / "made")

    found = load_file(tmp_path / "made" / "model.safetensors")
    assert {name: (t.shape, t.dtype) for name, t in found.items()} == {
        name: (t.shape, t.dtype) for name, t in wanted.items()
    }
    assert made.bytes == sum(tensor.nbytes for tensor in found.values())
    assert found["matrix"].float().abs().max() < 0.2
    assert found["matrix"].unique().numel() > 10
    assert found["norm"].eq(1).all()
    assert found["experts_scales"].eq(120).all()


def test_numbers_repeat_where_more_are_needed_than_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_NOISE", 5)
    write(Checkpoint({"model.safetensors": {"matrix": meta(4, 3)}}, saved), tmp_path / "made")

    flat = load_file(tmp_path / "made" / "model.safetensors")["matrix"].flatten()
    assert flat[:5].equal(flat[5:10])
    assert flat[10:].equal(flat[:2])


def test_large_files_are_sharded_as_published_ones_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 100)
    write(Checkpoint({"model.safetensors": {"a": meta(5, 10), "b": meta(5, 10)}}, saved), tmp_path / "made")

    index = json.loads((tmp_path / "made" / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    assert list(load_file(tmp_path / "made" / index["weight_map"]["b"])) == ["b"]


def test_what_was_begun_and_not_finished_is_written_anew(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        raise OSError("No space left on device")

    made = {"model.safetensors": {"a": meta(2, 2)}}
    with pytest.raises(OSError, match="No space"):
        write(Checkpoint(made, broken), tmp_path / "made")
    assert not (tmp_path / "made").exists()
    write(Checkpoint(made, saved), tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    write(Checkpoint({"model.safetensors": {"a": meta(2, 2)}}, saved), tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []
