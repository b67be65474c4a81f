"""gpt-oss in bfloat16, three times as large as it was published, back to MXFP4: its own format.

MXFP4 (OCP Microscaling Formats 1.0): 32 numbers share a power of two; each is one of sixteen values in four bits
(E2M1). Numbers that were unpacked from MXFP4 come back exactly; others are rounded to the nearest, ties to even, and
the power is the smallest that cuts none off, as in the kernels that transformers computes with. Only the experts are
packed, as in openai/gpt-oss-20b, under the names and in the order that it has them.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from llmux.errors import LoadFailed

_EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
_BLOCK = 32
_LARGEST = 6.0
_BIAS = 127

_BETWEEN = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
"""Halfway between neighbours of 0, 0.5, 1, 1.5, 2, 3, 4 and 6, whose codes are 0 to 7."""
_BETWEEN[1::2] = torch.nextafter(_BETWEEN[1::2], torch.zeros(3))  # there the larger one is even, and gets the tie

_CONFIG: Mapping[str, Any] = {
    "quant_method": "mxfp4",
    "packed_by": "llmux",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}


def pack(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """weights: shape (rows, columns), columns a multiple of 32.

    Returns blocks of shape (rows, columns / 32, 16), two numbers a byte, the first in its lower half; and scales of
    shape (rows, columns / 32), the exponent plus 127.
    """
    blocks = weights.float().contiguous().unflatten(-1, (-1, _BLOCK))
    mantissas, exponents = torch.frexp(blocks.abs().amax(-1) / _LARGEST)
    exponents = torch.where(mantissas > 0.5, exponents, exponents - 1).clamp(-_BIAS, _BIAS)
    scaled = torch.ldexp(blocks, -exponents[..., None])
    codes = torch.bucketize(scaled.abs(), _BETWEEN, out_int32=True) + 8 * scaled.signbit()
    return (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8), (exponents + _BIAS).to(torch.uint8)


def is_unpacked_gpt_oss(folder: Path) -> bool:
    """Whether this is a gpt-oss that would be smaller if it were packed."""
    config = _config(folder)
    return config.get("model_type") == "gpt_oss" and not config.get("quantization_config")


def was_converted(folder: Path) -> bool:
    """Whether `convert` made this folder, so that it is no longer what was published."""
    return "packed_by" in (_config(folder).get("quantization_config") or {})


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return config


def convert(source: Path, target: Path) -> None:
    """Write a packed copy of a gpt-oss folder, shard by shard: in memory are one packed shard and one expert.

    Goes on where an earlier call was interrupted; config.json comes last.

    Raises LoadFailed where it is no gpt-oss in plain numbers.
    """
    if not is_unpacked_gpt_oss(source):
        raise LoadFailed(f"{source.name} is no gpt-oss in plain numbers")
    target.mkdir(exist_ok=True)
    shards = sorted(source.glob("*.safetensors"))
    for shard in shards:
        if not (target / shard.name).is_file():
            unfinished = target / f"{shard.name}.part"
            save_file(dict(_packed(shard)), unfinished, metadata={"format": "pt"})
            unfinished.rename(target / shard.name)
    if len(shards) > 1:
        (target / "model.safetensors.index.json").write_text(json.dumps(_index(target), indent=1))
    for path in source.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and not path.name.endswith((".index.json", "config.json")):
            shutil.copyfile(path, target / path.name)
    for name in ("generation_config.json", "tokenizer_config.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    (target / "config.json").write_text(json.dumps({**_config(source), "quantization_config": _CONFIG}, indent=1))


def _packed(shard: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(shard, framework="pt") as tensors:
        for stored in tensors.keys():  # noqa: SIM118 - no mapping, but a file
            name = stored.removesuffix("_blocks")  # transformers 5.23 saves what it unpacked under the packed name
            if not name.endswith(_EXPERTS):
                yield stored, tensors.get_tensor(stored)
                continue
            experts = tensors.get_slice(stored)
            # Computed as inputs x outputs, packed along the inputs of each output.
            pairs = [pack(experts[number].T) for number in range(experts.get_shape()[0])]
            yield f"{name}_blocks", torch.stack([blocks for blocks, _ in pairs])
            yield f"{name}_scales", torch.stack([scales for _, scales in pairs])


def _index(folder: Path) -> dict[str, Any]:
    weight_map, total = {}, 0
    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, framework="pt") as tensors:
            weight_map.update(dict.fromkeys(tensors.keys(), shard.name))
        total += shard.stat().st_size
    return {"metadata": {"total_size": total}, "weight_map": weight_map}


def convert_in_place(folder: Path) -> None:
    """Put the packed copy in the folder's place, and the plain numbers away."""
    packed, plain = folder.with_name(f"{folder.name}.mxfp4"), folder.with_name(f"{folder.name}.plain")
    convert(folder, packed)
    folder.rename(plain)
    packed.rename(folder)
    shutil.rmtree(plain)
