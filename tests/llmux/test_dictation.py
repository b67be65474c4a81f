"""What dictation clients are told."""

from pathlib import Path

from llmux import dictation
from llmux.config import load_config
from llmux.connection import Connection

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"
CONNECTION = Connection("http://127.0.0.1:8081/v1", "sk-of-the-clients")


def told(path: Path) -> str:
    config = load_config(path)
    model = dictation.model(config)
    assert model is not None
    return "\n".join(dictation.settings(config, CONNECTION, model, "as it may be shown"))


def test_they_are_told_address_key_and_model() -> None:
    said = told(SHIPPED)
    for line in ("http://127.0.0.1:8081/v1/audio/transcriptions", "key       as it may be shown", "cohere-transcribe"):
        assert line in said
    assert CONNECTION.key not in said


def test_the_name_that_some_of_them_insist_on_is_explained_until_it_is_there(tmp_path: Path) -> None:
    alias = "router_settings: {model_group_alias: {whisper-1: cohere-transcribe}}\n"
    assert alias.strip() in told(SHIPPED)
    (tmp_path / "config.yaml").write_text(SHIPPED.read_text() + alias)
    assert "insist" not in told(tmp_path / "config.yaml")
