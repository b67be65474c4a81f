import json
from pathlib import Path

import pytest

from llmux.config import Config, Model, load_config
from llmux.errors import WeightsMissing
from llmux.weights import (
    kernel_repositories,
    local_kernels,
    missing_files,
    model_repository,
    needed_files,
    require_weights,
)

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
    repository = model_repository(model)
    assert repository is not None
    assert repository.patterns == (model.file, model.projector)


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


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("chat_template.jinja", True),
        ("original/model.safetensors", False),
        ("metal/model.bin", False),
        ("pytorch_model.bin", False),
        ("../config.json", False),
        ("/etc/config.json", False),
        (".fetched.json", False),
    ],
)
def test_a_checkpoint_is_fetched_once_and_stays_in_its_folder(config: Config, file: str, wanted: bool) -> None:
    repository = model_repository(config.settings.models["gpt-oss-20b"])
    assert repository is not None
    assert repository.wants(file) is wanted


def test_every_file_that_a_model_needs_is_wanted_of_its_repository(config: Config, tmp_path: Path) -> None:
    for model in config.settings.models.values():
        repository = model_repository(model)
        assert repository is not None
        for path in needed_files(model, tmp_path):
            assert repository.wants(str(path.relative_to(repository.name)))


@pytest.mark.parametrize(
    ("written", "kernels"),
    [
        ('{"model_type": "qwen3_5", "quantization_config": {"quant_method": "fp8"}}', ["finegrained-fp8", "fla"]),
        ('{"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}', ["gpt-oss-triton-kernels"]),
        ('{"model_type": "cohere_asr"}', []),
        ("{", []),
    ],
)
def test_kernels_are_known_by_the_checkpoint_and_found_without_the_hub(
    config: Config, tmp_path: Path, written: str, kernels: list[str]
) -> None:
    model = config.settings.models["qwen3.5-4b"]
    assert model.weights is not None
    assert kernel_repositories(model, tmp_path) == []
    touch(tmp_path / model.weights)
    (tmp_path / model.weights / "config.json").write_text(written)
    names = [f"kernels-community/{name}" for name in kernels]
    assert [repository.name for repository in kernel_repositories(model, tmp_path)] == names
    assert local_kernels([model], tmp_path) == ""
    for name in names:
        touch(tmp_path / name)
    assert local_kernels([model], tmp_path) == ":".join(f"{name}={tmp_path / name}" for name in names)
