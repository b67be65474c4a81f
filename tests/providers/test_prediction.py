"""What vram/prediction.py says of a load, against what the libraries then hold, for models that they really load."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import llama_cpp.llama_cpp as llama
import pytest
import torch

from llmux.config import Model
from providers import llamacpp, mxfp4, transformers_chat
from tests import checkpoints
from tests.stepping import begin, engine_of
from vram.headers import read_gguf
from vram.model import Files
from vram.prediction import Prediction, predict

CHAT = Model.model_validate({"task": "llm", "runtime": "transformers", "weights": "maker/tiny", "estimate": "1 MB"})


def predicted(files: Files) -> Prediction:
    prediction = predict(files)
    assert prediction is not None
    return prediction


@pytest.mark.parametrize(
    "write",
    [checkpoints.write_qwen, partial(checkpoints.write_qwen, vision=False), checkpoints.write_gpt_oss],
    ids=["qwen", "qwen without eyes", "gpt-oss"],
)
async def test_transformers_holds_the_weights_and_caches_that_were_predicted(
    tmp_path: Path, write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "providers.packed.pack", lambda model: None
    )  # predictions are for GPUs, where nothing is packed
    write(tmp_path)
    prediction = predicted(
        Files("transformers", (tmp_path / "model.safetensors",), tmp_path / "config.json", context=500, sequences=3)
    )
    wanted = {"capabilities": ("vision",), "context": 500, "max_concurrency": 3}
    loaded = await transformers_chat.load(CHAT.model_copy(update=wanted), tmp_path)
    try:
        engine = engine_of(loaded)
        assert prediction.weights_bytes == sum(map(size_of, engine._model.parameters()))
        sequences = [begin(engine, letter * 499) for letter in "abc"]
        engine.step([(sequence, 1) for sequence in sequences])
        assert prediction.cache_bytes == engine._slots.bytes
        for sequence in sequences:
            engine.remove(sequence)
        assert engine._slots.bytes == 0
    finally:
        await loaded.close()


async def test_packed_weights_are_predicted_packed(tmp_path: Path) -> None:
    checkpoints.write_gpt_oss(tmp_path)
    plain = predicted(Files("transformers", (tmp_path / "model.safetensors",))).weights_bytes
    mxfp4.convert(tmp_path, tmp_path / "packed")
    packed = predicted(Files("transformers", (tmp_path / "packed/model.safetensors",))).weights_bytes
    experts = 2 * 4 * (64 * 128 + 64 * 64)
    assert plain - packed == experts * 2 - (experts // 2 + experts // 32)


@pytest.mark.parametrize("context", [2048, 32_768])
async def test_llama_cpp_holds_the_weights_and_caches_that_were_predicted(
    tmp_path: Path, context: int, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.write_qwen(tmp_path)
    checkpoints.write_qwen_gguf(tmp_path, tmp_path / "model.gguf", tmp_path / "mmproj.gguf")
    chat = CHAT.model_copy(
        update={"runtime": "llama.cpp", "file": "model.gguf", "projector": "mmproj.gguf", "context": context}
    )
    prediction = predicted(
        Files("llama.cpp", (tmp_path / "model.gguf",), None, tmp_path / "mmproj.gguf", context=context)
    )
    with caplog.at_level("DEBUG", "providers.llama_log"):
        loaded = await llamacpp.load(chat, tmp_path)
        weights_bytes = llama.llama_model_size(loaded._model)
        await loaded.close()
    tensors = read_gguf(tmp_path / "model.gguf").tensors
    # The input embedding stays in main memory, where the output has a layer of its own; tensors are padded in the file.
    on_gpu_bytes = weights_bytes - tensors["token_embd.weight"]
    assert 0 <= prediction.weights_bytes - on_gpu_bytes < 32 * len(tensors)
    said = [float(mib) for mib in re.findall(r"(?:KV|RS) buffer size = +([\d.]+) MiB", caplog.text)]
    assert prediction.cache_bytes / 2**20 == pytest.approx(sum(said), abs=0.01 * len(said))
    (eyes,) = re.findall(r"model size: +([\d.]+) MiB", caplog.text)
    assert prediction.projector_bytes / 2**20 == pytest.approx(float(eyes), abs=0.01)


def size_of(tensor: torch.Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())
