from pathlib import Path

import pytest

from llmux.arbitration import arbiter_of
from llmux.config import Config, load_config
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
