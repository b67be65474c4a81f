"""What dictation clients are told."""

from pathlib import Path

from llmux import dictation
from llmux.config import load_config
from llmux.connection import Connection

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"
DEMO = SHIPPED.parent / "demo" / "litellm_config.yaml"
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


def test_the_name_that_some_of_them_insist_on_is_explained_where_it_is_not_known() -> None:
    assert "insist" not in told(SHIPPED)
    assert "router_settings: {model_group_alias: {whisper-1: Whisper-Base}}" in told(DEMO)
