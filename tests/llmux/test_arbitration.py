from dataclasses import replace
from pathlib import Path

import pytest

from llmux.arbitration import arbiter_of, specs
from llmux.config import Config, load_config
from vram.model import Files
from vram.refusal import NeverFits

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "litellm_config.yaml").write_text(SHIPPED.read_text().replace("budget: 16 GB", "budget: 10 GB"))
    return load_config(tmp_path / "litellm_config.yaml")


def test_the_arbiter_knows_every_physical_model_by_task_and_size(config: Config) -> None:
    models = {model.id: model for model in arbiter_of(config).snapshot().models}
    assert set(models) == set(config.settings.models)
    assert (models["cohere-transcribe"].task, models["cohere-transcribe"].bytes) == ("asr", 4 * 10**9)


def test_the_budget_of_the_configuration_is_the_arbiters(config: Config) -> None:
    arbiter = arbiter_of(config)
    assert isinstance(arbiter.refusal("gpt-oss-20b"), NeverFits)
    assert arbiter.refusal("qwen3.5-9b-fp8") is None


def test_pin_preload_and_idle_unload_reach_the_arbiter(tmp_path: Path) -> None:
    lines = "      gated: true\n      pin: true\n      preload: true\n      idle_unload_s: 300\n"
    (tmp_path / "c.yaml").write_text(SHIPPED.read_text().replace("      gated: true\n", lines))
    models = specs(load_config(tmp_path / "c.yaml"), on_gpu=False)

    spec = models["cohere-transcribe"]
    assert (spec.pinned, spec.preload, spec.idle_unload_s) == (True, True, 300)
    other = models["gpt-oss-20b"]
    assert (other.pinned, other.preload, other.idle_unload_s) == (False, False, None)


def test_on_a_gpu_first_loads_are_predicted_from_the_files_of_each_runtime(config: Config) -> None:
    models = specs(config, on_gpu=True)
    folder = config.models_dir / "Qwen/Qwen3.5-4B"
    assert models["qwen3.5-4b"].files == Files(
        "transformers", (folder / "model.safetensors",), folder / "config.json", context=32_768, sequences=1
    )
    gguf = models["qwen3.5-9b-fp8-uncensored"].files
    assert gguf is not None
    assert [path.suffix for path in (*gguf.weights, gguf.projector or Path())] == [".gguf", ".gguf"]
    speech = models["chatterbox-turbo"].files
    assert speech is not None
    assert [path.name for path in speech.weights] == [
        "ve.safetensors",
        "t3_turbo_v1.safetensors",
        "s3gen_meanflow.safetensors",
        "conds.pt",
    ]
    assert speech.context == 0


def test_without_a_gpu_the_estimates_stand(config: Config) -> None:
    assert all(spec.files is None for spec in specs(config, on_gpu=False).values())


def test_a_runtime_whose_package_holds_its_weights_has_no_files(config: Config, tmp_path: Path) -> None:
    hibari = "    hibari: {task: tts, runtime: hibari, estimate: 100 MB}\n    qwen3.5-4b:\n"
    (tmp_path / "c.yaml").write_text(SHIPPED.read_text().replace("    qwen3.5-4b:\n", hibari))
    assert specs(load_config(tmp_path / "c.yaml"), on_gpu=True)["hibari"].files is None


def test_a_measurement_holds_for_the_weights_projector_context_and_parallel_requests_it_was_made_with(
    config: Config,
) -> None:
    def key(**change: object) -> str | None:
        models = config.settings.models
        changed = {"uncensored": models["qwen3.5-9b-fp8-uncensored"].model_copy(update=change)}
        settings = config.settings.model_copy(update={"models": changed})
        return specs(replace(config, settings=settings), on_gpu=True)["uncensored"].ledger_key

    changes: list[dict[str, object]] = [
        {},
        {"projector": None},
        {"context": 8192},
        {"max_concurrency": 7},
        {"file": "other.gguf"},
    ]
    assert len({key(**change) for change in changes}) == len(changes)
    assert key(estimate=1) == key()
