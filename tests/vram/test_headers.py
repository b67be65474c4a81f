"""What weight files say of themselves, and that whatever is no such file is a ValueError."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from vram.headers import Tensor, read_gguf, read_safetensors


def write_safetensors(path: Path, header: object) -> Path:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data)
    return path


def test_a_safetensors_file_tells_type_and_size_of_each_tensor(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [12, 16]},
    }

    assert read_safetensors(write_safetensors(tmp_path / "w", header)) == {
        "a": Tensor("BF16", 12),
        "b": Tensor("F8_E4M3", 4),
    }


@pytest.mark.parametrize(
    "header", [b"", b"{", [], {"a": 7}, {"a": {"dtype": "F32"}}, {"a": {"dtype": "F32", "data_offsets": [1]}}]
)
def test_what_is_no_safetensors_header_is_refused(tmp_path: Path, header: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_safetensors(write_safetensors(tmp_path / "w", header))


def test_a_header_longer_than_any_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"\xff" * 64)

    with pytest.raises(ValueError, match="not a safetensors file"):
        read_safetensors(tmp_path / "w")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "qwen35")
    writer.add_block_count(4)
    writer.add_head_count_kv([0, 0, 0, 2])
    writer.add_float32("qwen35.rope.freq_base", 0.5)
    writer.add_bool("qwen35.flag", True)
    writer.add_token_list(["a", "ü", "ccc"])
    writer.add_tensor("token_embd.weight", np.zeros((3, 32), np.float32))
    writer.add_tensor("output.weight", np.zeros((3, 7), np.float16))  # 42 bytes, padded to 64
    writer.add_tensor("blk.0.x", np.zeros((1,), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_tells_its_settings_without_the_vocabulary(written: Path) -> None:
    assert read_gguf(written).metadata == {
        "general.architecture": "qwen35",
        "qwen35.block_count": 4,
        "qwen35.attention.head_count_kv": [0, 0, 0, 2],
        "qwen35.rope.freq_base": 0.5,
        "qwen35.flag": True,
    }


def test_a_gguf_tells_what_each_tensor_takes_with_its_padding(written: Path) -> None:
    tensors = read_gguf(written).tensors

    assert list(tensors) == ["token_embd.weight", "output.weight", "blk.0.x"]
    assert tensors["token_embd.weight"] == 384
    assert tensors["output.weight"] == 64
    assert 4 <= tensors["blk.0.x"] <= 32


def test_what_is_no_gguf_or_ends_too_early_is_refused(written: Path, tmp_path: Path) -> None:
    data = written.read_bytes()
    for content in (b"GGML" + data[4:], data[:100], data[:40], b"GGUF" + b"\xff" * 60, b""):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(ValueError):  # noqa: PT011
            read_gguf(tmp_path / "broken")
