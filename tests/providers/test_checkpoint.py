"""Which checkpoints are refused, where, and with which words."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmux.errors import LoadFailed
from providers import checkpoint, mxfp4
from providers.checkpoint import Checkpoint
from tests import checkpoints


def config(folder: Path, **settings: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def packed(tmp_path: Path) -> Checkpoint:
    (tmp_path / "plain").mkdir()
    checkpoints.write_gpt_oss(tmp_path / "plain")
    mxfp4.convert(tmp_path / "plain", tmp_path / "packed")
    return Checkpoint.read("maker/oss", tmp_path / "packed")


def test_code_that_comes_with_weights_is_refused(tmp_path: Path) -> None:
    config(tmp_path, model_type="mystery", auto_map={"AutoModelForCausalLM": "modeling_mystery.Mystery"})
    with pytest.raises(LoadFailed, match=r"model_type 'mystery'; code that comes with weights is never run"):
        Checkpoint.read("maker/odd", tmp_path)


def test_a_known_model_is_loaded_by_transformers_own_code_whatever_comes_with_it(tmp_path: Path) -> None:
    checkpoints.write_plain(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    config(tmp_path, **settings, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    (tmp_path / "modeling_evil.py").write_text("raise SystemExit")
    read = Checkpoint.read("maker/odd", tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path, config=read.settings("cpu"))


def test_a_kind_of_packing_that_is_not_known_is_named(tmp_path: Path) -> None:
    config(tmp_path, model_type="llama", quantization_config={"quant_method": "awq"})
    with pytest.raises(LoadFailed, match="is quantised by 'awq'; known are fp8 and mxfp4"):
        Checkpoint.read("maker/odd", tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"quantization_config": 3}'])
def test_a_config_that_is_none_is_refused_without_a_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(LoadFailed, match=r"config\.json of maker/odd cannot be read") as refused:
        Checkpoint.read("maker/odd", tmp_path)
    assert str(tmp_path) not in str(refused.value)


def test_packed_weights_count_unpacked_for_the_cpu(packed: Checkpoint) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(packed.folder, config=packed.settings("cpu"))
    assert packed.unpacked_bytes() == sum(p.numel() * 2 for p in loaded.parameters())


def test_fp8_counts_unpacked_for_the_cpu(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    checkpoints.write_qwen(tmp_path / "plain", vision=False)
    checkpoints.write_fp8(tmp_path / "plain", tmp_path / "packed")
    plain, fp8 = (Checkpoint.read("maker/tiny", tmp_path / name) for name in ("plain", "packed"))
    assert fp8.unpacked_bytes() == plain.unpacked_bytes()


def test_packed_weights_are_refused_without_the_ram_to_unpack_them(
    packed: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = packed.unpacked_bytes()
    monkeypatch.setattr(checkpoint, "free_ram_bytes", lambda: needed)
    packed.check("cpu")
    monkeypatch.setattr(checkpoint, "free_ram_bytes", lambda: needed - 1)
    with pytest.raises(LoadFailed, match=r"maker/oss needs 0\.0 GB of memory without a GPU, where its mxfp4 weights"):
        packed.check("cpu")


def test_free_ram_is_what_the_system_says() -> None:
    assert 10**6 < checkpoint.free_ram_bytes() < 10**13


def gpu(monkeypatch: pytest.MonkeyPatch, *, capability: tuple[int, int], triton: bool, kernels: bool) -> list[str]:
    """A GPU and its packages, as transformers is asked for them. Returns the kernels that were asked for."""
    asked: list[str] = []

    def get_kernel(name: str, version: int) -> object:
        asked.append(name)
        raise FileNotFoundError(name)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr("transformers.utils.import_utils.is_triton_available", lambda least: triton)
    monkeypatch.setattr("transformers.utils.import_utils.is_kernels_available", lambda: kernels)
    monkeypatch.setattr("transformers.integrations.hub_kernels.get_kernel", get_kernel)
    return asked


def test_on_a_gpu_packed_weights_are_refused_with_all_that_is_missing(
    packed: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = gpu(monkeypatch, capability=(7, 0), triton=False, kernels=False)
    with pytest.raises(LoadFailed) as refused:
        packed.check("cuda")
    assert str(refused.value).startswith(
        "maker/oss needs a GPU of compute capability 7.5 or above, the package triton (3.4 or newer), the package k"
    )
    assert "unpacked, they would take 0.0 GB of VRAM" in str(refused.value)
    assert asked == []


def test_on_a_gpu_a_kernel_that_is_not_here_is_named(packed: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = gpu(monkeypatch, capability=(12, 0), triton=True, kernels=True)
    with pytest.raises(LoadFailed, match="maker/oss needs the kernel kernels-community/gpt-oss-triton-kernels to"):
        packed.check("cuda")
    assert asked == ["kernels-community/gpt-oss-triton-kernels"]


def test_on_a_gpu_with_its_kernels_packed_weights_stay_packed(
    packed: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(monkeypatch, capability=(12, 0), triton=True, kernels=True)
    monkeypatch.setattr("transformers.integrations.hub_kernels.get_kernel", lambda name, version: object())
    packed.check("cuda")
    assert "dequantize" not in packed.settings("cuda").quantization_config
    assert packed.settings("cpu").quantization_config["dequantize"] is True


@pytest.mark.parametrize(("stored", "on_gpu"), [("float32", "bfloat16"), ("bfloat16", "auto"), ("float16", "auto")])
def test_plain_weights_take_16_bits_on_a_gpu(tmp_path: Path, stored: str, on_gpu: str) -> None:
    read = Checkpoint.read("maker/tiny", config(tmp_path, model_type="qwen3_5", text_config={"dtype": stored}))
    assert read.dtype("cuda") == on_gpu
    assert read.dtype("cpu") == "auto"
