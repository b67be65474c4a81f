"""`python -m bench gpu-vram` on a machine without a GPU: what it says, and all of it on a simulated card.

The card counts the live torch tensors of this process. Arbiter, ledger, runtimes and loads are the real ones, on a few
thousand random numbers.
"""

import gc
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import gpu_vram, swaps
from bench.cast import Cast
from bench.copy_rate import CopyRates
from bench.gpu_vram import CannotRun, configuration, measure, provide, without_too_large
from bench.shipped import write_random
from llmux.config import Config
from vram import prediction
from vram.device import Reading

FOREIGN_BYTES = 10**6


class TorchCard:
    """A card of which exactly so much is used as there are live torch tensors, and what others hold."""

    name = "simulated"
    budget_bytes = 1_900_000

    def __init__(self, budget_bytes: int | None = None) -> None:
        self._before_bytes = live_bytes()

    def read(self) -> Reading:
        own_bytes = max(0, live_bytes() - self._before_bytes)
        return Reading(self.budget_bytes + FOREIGN_BYTES, own_bytes + FOREIGN_BYTES, own_bytes)


def live_bytes() -> int:
    """Of all storages, each counted once."""
    storages: dict[int, int] = {}
    found: Any
    for found in gc.get_objects():
        if not issubclass(type(found), torch.Tensor) or found.device.type != "cpu":
            continue
        if found.is_mkldnn:  # packed weights have no storage to look at
            storages[id(found)] = found.numel() * found.element_size()
        else:
            storages[found.untyped_storage().data_ptr()] = found.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: a run sets this for its process."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@contextmanager
def nobody_holds(free_bytes: int) -> Iterator[int]:
    yield free_bytes


def tiny(config: Config, *names: str) -> Cast:
    """prefix_cache: what a runtime keeps in RAM would count as held by this card, which is RAM itself."""
    of_all = {"context": 2048, "prefix_cache": 0}
    models = {name: config.settings.models[name].model_copy(update=of_all) for name in names}
    config.settings.models.clear()
    config.settings.models.update(models)
    for name, model in models.items():
        write_random(name, model, config.models_dir, tiny=True)
    return Cast(models, {name: "no sizes" for name in names if name.startswith("chatterbox")}, {})


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for `measure`, where CUDA, NVML and the process that holds the rest of the card are played."""
    config = configuration(tmp_path)
    players = tiny(config, "gpt-oss-20b", "chatterbox", "chatterbox-turbo")
    monkeypatch.setattr(prediction, "WORKING_BYTES", dict.fromkeys(prediction.WORKING_BYTES, 100_000))
    monkeypatch.setattr(gpu_vram, "card_bytes", lambda: 10**11)
    monkeypatch.setattr(gpu_vram, "configuration", lambda folder: config)
    monkeypatch.setattr(gpu_vram, "cast", lambda config: players)
    monkeypatch.setattr(gpu_vram, "hold_all_but", nobody_holds)
    monkeypatch.setattr(gpu_vram, "NvmlDevice", TorchCard)
    monkeypatch.setattr(gpu_vram, "open_context", lambda: True)
    monkeypatch.setattr(gpu_vram, "copy_rates", lambda path: CopyRates(1e9, 2e9, 3e9, 4e9))
    monkeypatch.setattr(gpu_vram, "DEVICE", "cpu")
    # One at a time: what torch takes up for a moment a card keeps, and this one shows only to who looks in that moment.
    monkeypatch.setattr(swaps, "_TOGETHER", 0)
    pynvml = SimpleNamespace(nvmlSystemGetDriverVersion=lambda: "1.0")
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    gc.collect()
    gc.freeze()  # what is there already need not be looked through again and again
    gc.disable()  # nothing comes back but what an unload gives back
    yield tmp_path
    gc.enable()
    gc.unfreeze()


def test_without_a_gpu_it_says_so_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_vram.main([]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("gpu-vram: no NVIDIA GPU answers")
    assert "run it on a machine with" in line


def test_a_torch_without_cuda_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_vram, "NvmlDevice", TorchCard)
    with pytest.raises(CannotRun, match=r"torch .* cannot use the GPU; `make setup`"):
        gpu_vram.card_bytes()


def test_it_goes_through_on_a_simulated_card_and_a_second_run_goes_on(simulated: Path) -> None:
    result = measure(simulated, swaps=20, seed=1, until_s=math.inf)

    assert result["swaps"] >= 20
    assert result["out_of_memory"] == 0
    assert result["evictions"]["room"] > 0
    assert result["missed"] == []
    held = {row["model"]: row["taken_bytes"] for row in result["models"] if row["taken_bytes"] is not None}
    assert held
    assert all(size > 300_000 for size in held.values())
    assert abs(result["left_at_the_end_bytes"]) < 100_000
    assert json.loads((simulated / "state" / "ledger.json").read_text())["simulated"]

    again = measure(simulated, swaps=result["swaps"], seed=1, until_s=math.inf)
    assert (again["runs"], again["swaps"], again["steps"]) == (2, result["swaps"], result["steps"])


def test_the_exit_status_says_whether_a_goal_was_missed(simulated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--folder", str(simulated), "--limit-s", "-1"]
    assert gpu_vram.main([*options, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["missed"] == ["0 of 200 swaps: run it again to go on"]
    assert gpu_vram.main([*options, "--swaps", "0"]) == 0
    assert "simulated, driver 1.0" in capsys.readouterr().out


def test_models_that_the_card_cannot_hold_are_left_out(tmp_path: Path) -> None:
    models = configuration(tmp_path).settings.models
    players = without_too_large(Cast(models, {}, {}), 12 * 10**9)
    assert set(players.left_out) == {"gpt-oss-20b", "gpt-oss-20b-uncensored", "qwen3.5-9b-fp8"}
    assert set(players.models) == set(models) - set(players.left_out)


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.gpu_vram.shutil.disk_usage", lambda path: SimpleNamespace(free=10 * 10**9))
    models = configuration(tmp_path).settings.models
    with pytest.raises(CannotRun, match=r"need 50 GB .* 10 GB are free; .* --folder"):
        provide(Cast(models, {}, {}), tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_weights_that_cannot_be_written_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gpu_vram, "write_random", full)
    monkeypatch.setattr("bench.gpu_vram.shutil.disk_usage", lambda path: SimpleNamespace(free=10**12))
    models = {"chatterbox": configuration(tmp_path).settings.models["chatterbox"]}
    with pytest.raises(CannotRun, match="weights of chatterbox cannot be written: No space left"):
        provide(Cast(models, {}, {}), tmp_path / "models")


def test_a_machine_on_which_no_model_can_take_part_is_said(simulated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_vram, "cast", lambda config: Cast({}, {}, {"chatterbox": "it crashes"}))
    with pytest.raises(CannotRun, match="no model can take part: chatterbox: it crashes"):
        measure(simulated, swaps=1, seed=1, until_s=math.inf)


def test_the_whole_shipped_configuration_takes_part(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    assert len(config.settings.models) == 9
    assert config.models_dir == tmp_path / "models"
