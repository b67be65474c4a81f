"""A GGUF of random weights that llama.cpp takes."""

from pathlib import Path

import gguf

from bench import random_gguf
from vram.headers import read_gguf


def test_it_is_a_whole_gguf_of_the_size_that_was_said(tmp_path: Path) -> None:
    random_gguf.write(tmp_path / "tiny.gguf", tiny=True)

    read = read_gguf(tmp_path / "tiny.gguf")
    matrices = {name: size for name, size in read.tensors.items() if "norm" not in name}
    assert sum(matrices.values()) == random_gguf.bytes_of(tiny=True)
    assert read.metadata["general.architecture"] == "llama"
    kinds = {each.name: each.tensor_type for each in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors}
    assert kinds["blk.0.ffn_up.weight"] == gguf.GGMLQuantizationType.Q8_0
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"")
    random_gguf.write(tmp_path / "tiny.gguf", tiny=True)
    assert (tmp_path / "tiny.gguf").read_bytes() == b""
