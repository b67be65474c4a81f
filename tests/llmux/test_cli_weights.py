import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import TOKEN, StandIn, hub

ROOT = Path(__file__).parents[2]
CONFIG = """\
model_list:
  - {model_name: A, litellm_params: {model: llmux/open}}
llmux:
  budget: 1 GB
  database: none
  models:
    gated: {task: asr, runtime: transformers, weights: org/gated, estimate: 1 GB, gated: true}
    open: {task: llm, runtime: transformers, weights: org/open, estimate: 1 GB}
    packaged: {task: tts, runtime: hibari, estimate: 1 MB}
"""
WEIGHTS = bytes(2000)
FP8 = json.dumps({"model_type": "qwen3_5", "quantization_config": {"quant_method": "fp8"}}).encode()


@pytest.fixture
def remote() -> Iterator[StandIn]:
    with hub() as stand_in:
        stand_in.publish("org/open", {"config.json": FP8, "model.safetensors": WEIGHTS})
        stand_in.publish("org/gated", {"config.json": b"{}", "model.safetensors": WEIGHTS[1:]})
        stand_in.publish("kernels-community/finegrained-fp8", {"build/torch-cuda/fp8/__init__.py": b"fast = True"})
        stand_in.publish("kernels-community/fla", {"build/torch-cuda/fla/__init__.py": b"fast = True"})
        stand_in.gated.add("org/gated")
        yield stand_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "litellm_config.yaml").write_text(CONFIG)
    return tmp_path


def weights(remote: StandIn, folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    """`llmux weights ...` as users run it, HF_HUB_OFFLINE as while serving. Returns all that it said."""
    done = subprocess.run(
        [sys.executable, "-m", "llmux", "weights", *arguments],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "HF_ENDPOINT": remote.url,
            "HF_HUB_OFFLINE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


def test_from_an_empty_folder_to_a_verified_and_locked_one(remote: StandIn, folder: Path) -> None:
    listed = weights(remote, folder, "list")
    assert "org/gated (gated)" in listed
    assert "its package" in listed
    assert "no: config.json, model.safetensors" in listed

    assert "missing  open: org/open/model.safetensors" in weights(remote, folder, "verify", "open", code=1)
    said = weights(remote, folder, "fetch", code=1)
    assert "open: complete" in said
    assert "gated: org/gated is gated: accept its terms" in said
    assert "1 of 3 models could not be fetched: gated" in said
    assert "kernels-community/fla/build/torch-cuda/fla/__init__.py" in weights(remote, folder, "verify", "open")
    weights(remote, folder, "fetch", "gated", HF_TOKEN=TOKEN)

    assert "4 repositories are pinned in litellm_config.lock.json" in weights(remote, folder, "lock")
    commit = remote.publish("org/open", {"config.json": FP8, "model.safetensors": WEIGHTS[2:]})
    weights(remote, folder, "fetch", "open")
    weights(remote, folder, "verify")
    weights(remote, folder, "fetch", "open", "--latest")
    other = weights(remote, folder, "verify", "open", code=1)
    assert "other    open: org/open/model.safetensors" in other
    weights(remote, folder, "lock")
    assert json.loads((folder / "litellm_config.lock.json").read_text())["org/open"]["revision"] == commit

    assert "0.0 GB are free again" in weights(remote, folder, "remove", "open", "--yes")
    assert not (folder / "models" / "org" / "open").exists()
    assert (folder / "models" / "org" / "gated" / "config.json").exists()


def test_an_unknown_model_is_refused_with_those_that_are_known(remote: StandIn, folder: Path) -> None:
    said = weights(remote, folder, "fetch", "other", code=1)
    assert "no physical model 'other' under llmux.models; known: gated, open, packaged" in said


def test_without_room_nothing_is_fetched(remote: StandIn, folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(
        "import shutil\nshutil.disk_usage = lambda path: type('Usage', (), {'free': 1000})"
    )
    said = weights(remote, folder, "fetch", "open", code=1, PYTHONPATH=f"{folder}:{ROOT}")
    assert "0.0 GB are to come and 0.0 GB are free in llmux.models_dir: nothing was fetched" in said
    assert remote.asked == []
