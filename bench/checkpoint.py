"""Checkpoints of random weights: for whoever needs a model's bytes, not its words."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHARD_BYTES = 2 * 10**9

_NOISE = 2**24 + 1
"""Numbers that are drawn, a count that no row divides. Larger tensors repeat them: to draw billions takes minutes."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a folder of weights is to hold.

    files: tensors on torch's meta device, by file and by their name in it; a file above SHARD_BYTES is sharded
    save: writes what lies beside the weights, such as config.json and a tokenizer, into the folder
    """

    files: Mapping[str, Mapping[str, Any]]
    save: Callable[[Path], None]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensors in self.files.values() for tensor in tensors.values())


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write it whole or not at all; a folder that is there is taken as written. Raises OSError."""
    if folder.is_dir():
        return
    begun = folder.with_name(f"{folder.name}.begun")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    noise = _noise()
    for name, tensors in checkpoint.files.items():
        _write_weights(begun / name, tensors, noise)
    checkpoint.save(begun)
    begun.replace(folder)


def _write_weights(path: Path, tensors: Mapping[str, Any], noise: Any) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    pattern = f"{path.stem}{{suffix}}{path.suffix}"
    split = split_torch_state_dict_into_shards(dict(tensors), filename_pattern=pattern, max_shard_size=SHARD_BYTES)
    for shard, names in split.filename_to_tensors.items():
        filled = {name: _filled(name, tensors[name], noise) for name in names}
        save_file(filled, path.with_name(shard), metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        path.with_name(f"{path.name}.index.json").write_text(json.dumps(index), encoding="utf-8")


def _noise() -> Any:
    import torch

    return torch.randn(_NOISE, generator=torch.Generator().manual_seed(0)) * 0.02


def _filled(name: str, tensor: Any, noise: Any) -> Any:
    """Numbers with which a forward pass stays finite: vectors (norms, biases, variances) are ones."""
    import torch

    if tensor.ndim < 2:
        return torch.ones(tensor.shape, dtype=tensor.dtype)
    if name.endswith("_scales"):  # MXFP4: the power of two, plus 127, that a block is multiplied by
        return torch.full(tensor.shape, 120, dtype=tensor.dtype)
    drawn = noise[: tensor.numel()]
    drawn = drawn.view(torch.uint8) if tensor.dtype == torch.uint8 else drawn.to(tensor.dtype)
    repeats = -(-tensor.numel() // drawn.numel())
    return drawn.repeat(repeats)[: tensor.numel()].reshape(tensor.shape)
