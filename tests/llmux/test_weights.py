import json
from pathlib import Path
from typing import Any

import pytest

from llmux.config import Config, Model, load_config
from llmux.errors import WeightsMissing
from llmux.weights import fetch, fetch_patterns, missing_files, needed_files, require_weights
from providers import mxfp4
from tests import checkpoints

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"


@pytest.fixture
def config() -> Config:
    return load_config(SHIPPED)


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_a_gguf_model_needs_its_file_and_its_projector(config: Config, tmp_path: Path) -> None:
    model = config.settings.models["qwen3.5-9b-fp8-uncensored"]
    assert [path.name for path in needed_files(model, tmp_path)] == [model.file, model.projector]
    assert fetch_patterns(model) == [model.file, model.projector]


def test_a_sharded_checkpoint_needs_every_shard_of_its_index(config: Config, tmp_path: Path) -> None:
    model = config.settings.models["qwen3.5-4b"]
    assert model.weights is not None
    folder = tmp_path / model.weights
    touch(folder, "config.json", "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    )
    assert missing_files(model, tmp_path) == [Path(model.weights) / "model-2.safetensors"]
    touch(folder, "model-2.safetensors")
    assert missing_files(model, tmp_path) == []


def test_what_a_package_holds_is_never_missing(tmp_path: Path) -> None:
    model = Model.model_validate({"task": "tts", "runtime": "hibari", "estimate": "1 MB"})
    assert missing_files(model, tmp_path) == []


@pytest.mark.parametrize("physical", list(load_config(SHIPPED).settings.models))
def test_missing_weights_name_files_and_the_command_but_no_path_of_the_machine(physical: str, tmp_path: Path) -> None:
    (tmp_path / "litellm_config.yaml").write_text(SHIPPED.read_text())
    config = load_config(tmp_path / "litellm_config.yaml")
    with pytest.raises(WeightsMissing) as raised:
        require_weights(physical, config)
    said = str(raised.value)
    assert f"python -m llmux weights fetch {physical}" in said
    assert str(config.settings.models[physical].weights) in said
    assert str(tmp_path) not in said


def test_a_gpt_oss_that_was_published_unpacked_is_packed_once(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def download(repository: str, local_dir: Path, **_: Any) -> None:
        fetched.append(repository)
        local_dir.mkdir(parents=True)
        checkpoints.write_gpt_oss(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    model = config.settings.models["gpt-oss-20b-uncensored"]
    assert model.weights is not None
    for _ in range(2):
        fetch(model, tmp_path)
    assert mxfp4.was_converted(tmp_path / model.weights)
    assert missing_files(model, tmp_path) == []
    assert fetched == [model.weights]
