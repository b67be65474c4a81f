"""Random weights for each model that litellm_config.yaml ships."""

from pathlib import Path

import pytest

from bench.gpu_vram import configuration
from bench.shipped import bytes_of, disk_folder, write_random
from llmux.arbitration import specs
from llmux.weights import missing_files
from vram.prediction import predict

GB = 10**9

TRUE_BYTES = {
    "qwen3.5-9b-fp8": 11.9,
    "qwen3.5-9b-fp8-uncensored": 8.5,
    "qwen3.5-4b": 9.3,
    "gpt-oss-20b": 13.8,
    "gpt-oss-20b-uncensored": 13.8,
    "cohere-transcribe": 4.1,
    "chatterbox-turbo": 2.0,
    "chatterbox-multilingual": 2.0,
    "chatterbox": 2.0,
}
"""In GB. Qwen3.5-4B has 4.66 billion numbers of two bytes. Qwen3.5-9B keeps vocabulary and vision in bfloat16."""


def test_every_shipped_model_is_known_in_its_true_size(tmp_path: Path) -> None:
    models = configuration(tmp_path).settings.models
    assert {name: round(bytes_of(name, model) / GB, 1) for name, model in models.items()} == TRUE_BYTES


def test_all_files_are_there_and_the_arbiter_can_predict_from_them(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    for name, model in config.settings.models.items():
        write_random(name, model, config.models_dir, tiny=True)
        assert missing_files(model, config.models_dir) == []
    for spec in specs(config, on_gpu=True).values():
        assert spec.files is not None
        assert predict(spec.files) is not None, spec.id


def test_models_that_are_alike_share_the_disk(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    models = config.settings.models
    for name in ("gpt-oss-20b-uncensored", "gpt-oss-20b"):
        write_random(name, models[name], config.models_dir, tiny=True)
    assert disk_folder(models["gpt-oss-20b-uncensored"]) == disk_folder(models["gpt-oss-20b"])
    assert (config.models_dir / "aoxo/gpt-oss-20b-uncensored").is_symlink()
    assert not (config.models_dir / "openai/gpt-oss-20b").is_symlink()


def test_a_model_that_nothing_is_known_of_is_a_key_error(tmp_path: Path) -> None:
    model = configuration(tmp_path).settings.models["qwen3.5-4b"]
    with pytest.raises(KeyError, match="another"):
        bytes_of("another", model)
