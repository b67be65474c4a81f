"""What the shipped configuration offers to clients."""

from pathlib import Path

import pytest

from llmux import catalogue
from llmux.config import load_config

SHIPPED = load_config(Path(__file__).parents[2] / "litellm_config.yaml")


def test_names_are_told_by_what_they_do() -> None:
    assert len(catalogue.names(SHIPPED, "llm")) == 12
    assert catalogue.names(SHIPPED, "asr") == ["cohere-transcribe"]
    assert catalogue.names(SHIPPED, "tts") == ["Chatterbox-Turbo", "Chatterbox-Multilingual", "Chatterbox"]


@pytest.mark.parametrize(
    ("name", "quickest"),
    [
        ("Qwen3.5-9B-FP8-Thinking", "Qwen3.5-9B-FP8-Instruct"),
        ("Qwen3.5-4B-Instruct", "Qwen3.5-4B-Instruct"),
        ("GPT-OSS-20B-High", "GPT-OSS-20B-Low"),
        ("cohere-transcribe", "cohere-transcribe"),
    ],
)
def test_the_quickest_view_is_one_of_the_same_physical_model(name: str, quickest: str) -> None:
    assert catalogue.quickest(SHIPPED, name) == quickest
    assert SHIPPED.virtual[name].physical == SHIPPED.virtual[quickest].physical


@pytest.mark.parametrize(
    ("name", "thinks"),
    [("Qwen3.5-4B-Thinking", True), ("Qwen3.5-4B-Instruct", False), ("GPT-OSS-20B-Low", True)],
)
def test_a_view_tells_whether_its_model_thinks(name: str, thinks: bool) -> None:
    assert catalogue.thinks(SHIPPED, name) is thinks
