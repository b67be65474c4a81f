"""`python -m bench gpu-chat` on a machine without a GPU: what it says, and what it measures, on tiny models."""

from itertools import product
from pathlib import Path

import pytest
import torch

from bench import gpu_chat
from bench.gpu_chat import Row, measure, step_bytes, table
from bench.gpu_vram import configuration
from bench.shipped import write_random
from llmux.config import Model


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def model(name: str, folder: Path) -> Model:
    return configuration(folder).settings.models[name].model_copy(update={"max_concurrency": 2, "context": 512})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_gives_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_chat.main(["--folder", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("gpu-chat: ")
    assert "\n" not in said


@pytest.mark.parametrize("name", ["qwen3.5-4b", "qwen3.5-9b-fp8"])
async def test_tiny_models_are_measured(name: str, tmp_path: Path) -> None:
    entry = model(name, tmp_path)
    write_random(name, entry, tmp_path / "models", tiny=True)
    rows = await measure(name, entry, tmp_path / "models", 1e9, 1, serve=False, tiny=True, streams=(1, 2))
    assert [(row.contender, row.streams) for row in rows] == [*product(("runtime", "gateway"), (1, 2))]
    assert all(row.tokens_per_s > 0 and row.share > 0 for row in rows)
    assert len(list(table(rows))) == 1 + len(rows)


def test_the_limit_counts_what_a_step_reads(tmp_path: Path) -> None:
    """4.66 billion parameters in 16 bits are 9.3 GB; the eyes are a third of a GB of it."""
    qwen = step_bytes("qwen3.5-4b", model("qwen3.5-4b", tmp_path), 1)
    assert 8.0e9 < qwen < 9.3e9
    assert step_bytes("qwen3.5-4b", model("qwen3.5-4b", tmp_path), 8) == qwen
    gpt_oss = [step_bytes("gpt-oss-20b", model("gpt-oss-20b", tmp_path), streams) for streams in (1, 8, 1000)]
    assert gpt_oss[0] < 4e9 < gpt_oss[1] < gpt_oss[2] < 13e9


def test_a_share_is_of_the_limit() -> None:
    assert Row("m", "gateway", 8, 50, 1, 200).share == 0.25
