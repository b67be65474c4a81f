"""What llama.cpp has to say of a load, and where it says it."""

import logging
import threading
from pathlib import Path

import pytest

from llmux.config import Model
from providers import llama_log, llamacpp
from tests import checkpoints


async def test_what_llama_cpp_and_mtmd_log_is_logged_at_debug(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoints.write_qwen(tmp_path)
    checkpoints.write_qwen_gguf(tmp_path, tmp_path / "model.gguf", tmp_path / "mmproj.gguf")
    capfd.readouterr()
    model = Model.model_validate(
        {
            "task": "llm",
            "runtime": "llama.cpp",
            "weights": "w",
            "file": "model.gguf",
            "projector": "mmproj.gguf",
            "estimate": "1 MB",
        }
    )
    with caplog.at_level(logging.DEBUG, "providers.llama_log"):
        await (await llamacpp.load(model, tmp_path)).close()
    said = [record.message for record in caplog.records if record.name == "providers.llama_log"]
    assert any("llama_context" in line for line in said)
    assert any("clip" in line for line in said)
    assert {record.levelno for record in caplog.records if record.name == "providers.llama_log"} == {logging.DEBUG}
    assert capfd.readouterr().err == ""


def test_before_llama_cpp_aborts_the_process_the_log_names_model_and_reason_and_no_folder(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def aborts() -> None:
        llama_log._log(llama_log._ERROR, b"CUDA error: out of memory\n", None)
        llama_log._last_words(b"/build/llama.cpp/ggml/src/ggml-cuda/ggml-cuda.cu:98: CUDA error")

    thread = threading.Thread(target=aborts, name="llmux-Qwen3.5-9B-Q8_0_0")
    thread.start()
    thread.join()
    said = "Qwen3.5-9B-Q8_0: llama.cpp aborts the process: ggml-cuda.cu:98: CUDA error (CUDA error: out of memory)"
    assert caplog.messages == [said]
