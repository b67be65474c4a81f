"""What a first load will take, reckoned from headers and settings alone: each figure here can be checked by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from vram.model import Files
from vram.prediction import KEPT_STATES, WORKING_BYTES, Prediction, predict

LLAMA = {"num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 512, "max_position_embeddings": 4096}
QWEN = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_size": 4096,
    "max_position_embeddings": 262_144,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}


def checkpoint(path: Path, **tensors: tuple[str, int]) -> Path:
    """tensors: name -> type and bytes. Only the header is written: the weights are never read."""
    header, at = {}, 0
    for name, (dtype, size) in tensors.items():
        header[name.replace("__", ".")] = {"dtype": dtype, "shape": [size], "data_offsets": [at, at + size]}
        at += size
    data = json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data)
    return path


def transformers(folder: Path, config: Mapping[str, Any], *, context: int = 0, sequences: int = 1) -> Files:
    (folder / "config.json").write_text(json.dumps(config))
    return Files("transformers", (folder / "model.safetensors",), folder / "config.json", None, context, sequences)


def predicted(files: Files) -> Prediction:
    prediction = predict(files)
    assert prediction is not None
    return prediction


# Weights.


def test_weights_count_at_the_types_they_will_have_in_memory(tmp_path: Path) -> None:
    checkpoint(
        tmp_path / "model.safetensors",
        bf16=("BF16", 1000),
        fp16=("F16", 1000),
        fp32=("F32", 1000),  # loaded as a 16-bit type
        fp8=("F8_E4M3", 1000),
        fp8_scale_inv=("F32", 1000),  # belongs to the line above, and stays
        mxfp4_blocks=("U8", 1000),
    )

    assert predicted(transformers(tmp_path, {})).weights_bytes == 5500


def test_heads_that_transformers_does_not_load_do_not_count(tmp_path: Path) -> None:
    checkpoint(tmp_path / "model.safetensors", model__a=("BF16", 100), mtp__a=("BF16", 50))

    assert predicted(transformers(tmp_path, {})).weights_bytes == 100


def test_the_shards_are_those_that_the_index_names(tmp_path: Path) -> None:
    checkpoint(tmp_path / "a.safetensors", x=("BF16", 100), y=("BF16", 20))
    checkpoint(tmp_path / "b.safetensors", z=("BF16", 3))
    checkpoint(tmp_path / "stale.safetensors", z=("BF16", 1000))
    index = {"weight_map": {"x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    assert predicted(transformers(tmp_path, {})).weights_bytes == 123


def test_chatterbox_computes_in_the_types_that_it_stores_and_other_files_count_whole(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path / "t3.safetensors", a=("F32", 1000))
    (tmp_path / "conds.pt").write_bytes(b"x" * 77)

    prediction = predicted(Files("chatterbox", (weights, tmp_path / "conds.pt")))

    assert prediction == Prediction(1077, 0, 0, WORKING_BYTES["chatterbox"])
    assert prediction.bytes == 1077 + WORKING_BYTES["chatterbox"]


# Caches of transformers.


def cache_bytes(folder: Path, config: Mapping[str, Any], context: int, sequences: int = 1) -> int:
    checkpoint(folder / "model.safetensors", a=("BF16", 2))
    return predicted(transformers(folder, config, context=context, sequences=sequences)).cache_bytes


def test_keys_and_values_of_every_layer_for_the_whole_context_of_each_sequence(tmp_path: Path) -> None:
    assert cache_bytes(tmp_path, LLAMA, 1000) == 2 * 1000 * (2 * 8 * 64 * 2)
    assert cache_bytes(tmp_path, LLAMA, 1000, sequences=3) == 3 * 2 * 1000 * (2 * 8 * 64 * 2)


def test_grouped_heads_share_keys_and_values(tmp_path: Path) -> None:
    assert cache_bytes(tmp_path, LLAMA | {"num_key_value_heads": 2}, 1000) == 2 * 1000 * (2 * 2 * 64 * 2)


def test_no_more_context_than_the_model_was_trained_with(tmp_path: Path) -> None:
    assert cache_bytes(tmp_path, LLAMA, 100_000) == cache_bytes(tmp_path, LLAMA, 4096)


def test_a_sliding_window_bounds_its_layers(tmp_path: Path) -> None:
    config = LLAMA | {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 128}

    assert cache_bytes(tmp_path, config, 1000) == (128 + 1000) * (2 * 8 * 64 * 2)
    assert cache_bytes(tmp_path, config, 100) == (100 + 100) * (2 * 8 * 64 * 2)


def test_linear_attention_keeps_a_state_of_one_size_whatever_the_context(tmp_path: Path) -> None:
    """Qwen3.5's hybrid: three of four layers hold a convolution's last inputs and a recurrent state."""
    state = (2 * 16 * 128 + 32 * 128) * 4 * 2 + 32 * 128 * 128 * 4

    for context in (1000, 32_768):
        assert cache_bytes(tmp_path, {"text_config": QWEN}, context) == 3 * state + context * (2 * 4 * 256 * 2)


def test_a_step_of_a_prompt_writes_one_layers_keys_and_values_out_for_every_head(tmp_path: Path) -> None:
    checkpoint(tmp_path / "model.safetensors", a=("BF16", 2))
    working = predicted(transformers(tmp_path, QWEN, context=32_768, sequences=3)).working_bytes
    assert working - WORKING_BYTES["transformers"] == 32_768 * (2 * 16 * 256 * 2)


def test_speech_models_have_no_cache_that_grows_with_a_context(tmp_path: Path) -> None:
    assert cache_bytes(tmp_path, {"d_model": 512}, 0) == 0


# GGUF.


def write_gguf(path: Path, settings: Mapping[str, Any], **tensors: int) -> Path:
    writer = gguf.GGUFWriter(path, "qwen35")
    for name, value in settings.items():
        if isinstance(value, list):
            writer.add_array(f"qwen35.{name}", value)
        else:
            writer.add_uint32(f"qwen35.{name}", value)
    for name, size in tensors.items():
        writer.add_tensor(name.replace("__", "."), np.zeros((size // 4,), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


GGUF = {
    "block_count": 4,
    "embedding_length": 512,
    "context_length": 4096,
    "attention.head_count": 8,
    "attention.head_count_kv": 2,
}


def test_a_gguf_lies_on_the_gpu_but_for_an_embedding_of_its_own(tmp_path: Path) -> None:
    tied = write_gguf(tmp_path / "tied.gguf", GGUF, token_embd__weight=640, blk=320)
    own = write_gguf(tmp_path / "own.gguf", GGUF, token_embd__weight=640, blk=320, output__weight=640)

    assert predicted(Files("llama.cpp", (tied,))).weights_bytes == 960
    assert predicted(Files("llama.cpp", (own,))).weights_bytes == 960


def test_the_projector_is_added(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "m.gguf", GGUF, blk=320)
    projector = write_gguf(tmp_path / "mmproj.gguf", {}, v=96)

    prediction = predicted(Files("llama.cpp", (model,), projector=projector))

    assert prediction == Prediction(320, 0, 96, WORKING_BYTES["llama.cpp"] + 500_000_000)


@pytest.mark.parametrize(
    ("more", "token_bytes", "state_bytes"),
    [
        ({}, 4 * 2 * (64 + 64) * 2, 0),
        ({"attention.key_length": 256, "attention.value_length": 128}, 4 * 2 * (256 + 128) * 2, 0),
        ({"attention.head_count_kv": [0, 2, 0, 2]}, 2 * 2 * (64 + 64) * 2, 0),
        (
            {"ssm.state_size": 128, "ssm.inner_size": 4096, "ssm.group_count": 16, "ssm.conv_kernel": 4},
            1 * 2 * (64 + 64) * 2,
            3 * (3 * (4096 + 2 * 16 * 128) + 128 * 4096) * 4,
        ),
    ],
)
def test_a_ggufs_cache_follows_its_metadata(
    tmp_path: Path, more: Mapping[str, Any], token_bytes: int, state_bytes: int
) -> None:
    model = write_gguf(tmp_path / "m.gguf", {**GGUF, **more}, blk=320)

    for context, held in ((1000, 1000), (10_000, 4096)):
        files = Files("llama.cpp", (model,), context=context, sequences=2)
        assert predicted(files).cache_bytes == 2 * held * token_bytes + (2 + KEPT_STATES) * state_bytes


# Nothing to go by.


def test_missing_broken_and_unknown_files_predict_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"no header")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    weights = checkpoint(tmp_path / "w.safetensors", a=("BF16", 2))
    (tmp_path / "config.json").write_text("[]")

    for files in (
        Files("transformers", (tmp_path / "absent.safetensors",)),
        Files("transformers", (tmp_path / "model.safetensors",)),
        Files("transformers", (weights,), tmp_path / "config.json", context=100),
        Files("transformers", (weights,), tmp_path / "absent.json", context=100),
        Files("transformers", (weights,), context=100),
        Files("llama.cpp", (tmp_path / "m.gguf",)),
        Files("hibari", (weights,)),
        Files("transformers", ()),
    ):
        assert predict(files) is None
