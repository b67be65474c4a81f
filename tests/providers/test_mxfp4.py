"""gpt-oss packed to MXFP4, held against transformers' own unpacking."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.integrations.mxfp4 import FP4_VALUES, convert_moe_packed_tensors

from llmux.errors import LoadFailed
from providers import mxfp4
from tests import checkpoints

GATE_UP = "model.layers.0.mlp.experts.gate_up_proj"


def unpack(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """As transformers does, which takes experts, and turns each."""
    return convert_moe_packed_tensors(blocks[None], scales[None], dtype=torch.float32)[0].T


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-100, 100), rows=st.integers(1, 4))
def test_what_was_unpacked_from_mxfp4_comes_back_exactly(seed: int, exponent: int, rows: int) -> None:
    random = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (rows, 64), generator=random)
    powers = torch.randint(-20, 20, (rows, 2), generator=random).repeat_interleave(32, dim=1) + exponent
    weights = torch.ldexp(torch.tensor(FP4_VALUES)[codes], powers)

    assert torch.equal(unpack(*mxfp4.pack(weights)), weights)


@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0.01, 3))
def test_other_numbers_are_rounded_to_the_nearest(seed: int, spread: float) -> None:
    weights = torch.randn(3, 64, generator=torch.Generator().manual_seed(seed)) * spread
    blocks, scales = mxfp4.pack(weights)
    rounded = unpack(blocks, scales)

    steps = torch.ldexp(torch.ones(scales.shape), scales.int() - 127).repeat_interleave(32, dim=1)
    choices = torch.tensor(FP4_VALUES) * steps[..., None]
    nearest = (choices - weights[..., None]).abs().amin(-1)
    assert torch.equal((rounded - weights).abs(), nearest)
    assert bool((weights.abs() <= 6 * steps).all()), "the largest number of a block is never cut off"


@pytest.mark.parametrize(
    ("number", "rounded"), [(0.25, 0), (0.75, 1), (1.25, 1), (1.75, 2), (2.5, 2), (3.5, 4), (5, 4), (-0.75, -1)]
)
def test_ties_go_to_the_even_one(number: float, rounded: float) -> None:
    weights = torch.tensor([[6.0, number, *[0.0] * 30]])
    assert unpack(*mxfp4.pack(weights))[0, 1] == rounded


def test_blocks_of_nothing_stay_nothing() -> None:
    weights = torch.zeros(1, 32)
    assert torch.equal(unpack(*mxfp4.pack(weights)), weights)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    (tmp_path / "plain").mkdir()
    checkpoints.write_gpt_oss(tmp_path / "plain")
    return tmp_path / "plain"


def split(folder: Path) -> None:
    """The one file of a checkpoint, as two shards."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, kept in shards.items():
        save_file({name: tensors[name] for name in kept}, folder / shard, metadata={"format": "pt"})
    weight_map = {name: shard for shard, kept in shards.items() for name in kept}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("shards", [1, 2])
def test_transformers_loads_the_packed_folder_as_what_it_was_made_of(plain: Path, tmp_path: Path, shards: int) -> None:
    if shards == 2:
        split(plain)
    mxfp4.convert(plain, tmp_path / "packed")
    was = AutoModelForCausalLM.from_pretrained(plain).state_dict()
    now = AutoModelForCausalLM.from_pretrained(tmp_path / "packed").state_dict()

    assert was.keys() == now.keys()
    for name, tensor in was.items():
        if name.endswith(mxfp4._EXPERTS):
            wanted = torch.stack([unpack(*mxfp4.pack(expert.T)).T for expert in tensor])
            assert torch.equal(now[name].float(), wanted), name
            assert (now[name] - tensor).abs().mean() < 0.15 * tensor.abs().mean()
        else:
            assert torch.equal(now[name], tensor), name


def test_the_packed_file_has_the_names_and_shapes_of_the_published_one(plain: Path, tmp_path: Path) -> None:
    mxfp4.convert(plain, tmp_path / "packed")
    with safe_open(tmp_path / "packed/model.safetensors", framework="pt") as tensors:
        shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys() if GATE_UP in name}  # noqa: SIM118
    assert shapes == {
        f"{GATE_UP}_blocks": [4, 128, 2, 16],
        f"{GATE_UP}_scales": [4, 128, 2],
        f"{GATE_UP}_bias": [4, 128],
    }
    config = json.loads((tmp_path / "packed/config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "mxfp4"
    assert {path.name for path in (tmp_path / "packed").iterdir()} == {path.name for path in plain.iterdir()}


def test_packing_again_what_was_unpacked_changes_nothing(plain: Path, tmp_path: Path) -> None:
    mxfp4.convert(plain, tmp_path / "packed")
    packed = AutoModelForCausalLM.from_pretrained(tmp_path / "packed")
    packed.save_pretrained(tmp_path / "unpacked")
    mxfp4.convert(tmp_path / "unpacked", tmp_path / "repacked")
    repacked = AutoModelForCausalLM.from_pretrained(tmp_path / "repacked").state_dict()
    assert all(torch.equal(repacked[name], tensor) for name, tensor in packed.state_dict().items())


def test_an_interrupted_conversion_goes_on_where_it_stopped(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split(plain)
    written: list[str] = []

    def failing(tensors: Any, path: Path, **more: Any) -> None:
        if len(written) == 1:
            path.write_bytes(b"half")
            raise OSError("disk full")
        save_file(tensors, path, **more)
        written.append(path.name)

    monkeypatch.setattr(mxfp4, "save_file", failing)
    with pytest.raises(OSError, match="disk full"):
        mxfp4.convert(plain, tmp_path / "packed")
    assert not (tmp_path / "packed/config.json").exists()
    monkeypatch.undo()

    done = (tmp_path / "packed/model-00001-of-00002.safetensors").stat().st_mtime_ns
    mxfp4.convert(plain, tmp_path / "packed")

    assert (tmp_path / "packed/model-00001-of-00002.safetensors").stat().st_mtime_ns == done
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "packed")


def test_in_place_the_folder_keeps_its_name_and_loses_its_size(plain: Path) -> None:
    before = (plain / "model.safetensors").stat().st_size
    assert (mxfp4.is_unpacked_gpt_oss(plain), mxfp4.was_converted(plain)) == (True, False)
    mxfp4.convert_in_place(plain)
    assert (mxfp4.is_unpacked_gpt_oss(plain), mxfp4.was_converted(plain)) == (False, True)
    assert (plain / "model.safetensors").stat().st_size < 0.7 * before
    assert [path.name for path in plain.parent.iterdir()] == ["plain"]


def test_what_is_no_plain_gpt_oss_is_refused(plain: Path, tmp_path: Path) -> None:
    mxfp4.convert(plain, tmp_path / "packed")
    with pytest.raises(LoadFailed, match="packed is no gpt-oss in plain numbers"):
        mxfp4.convert(tmp_path / "packed", tmp_path / "again")
