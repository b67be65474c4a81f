"""OpenCode's configuration. tests/clients/test_opencode.py gives it to the real one."""

from pathlib import Path
from typing import Any

import pytest

from llmux.config import load_config
from llmux.opencode import default_model, merged, provider

SHIPPED = load_config(Path(__file__).parents[2] / "litellm_config.yaml")
URL = "http://127.0.0.1:8081/v1"


def test_each_chat_model_has_its_limits_and_abilities() -> None:
    models = provider(SHIPPED, URL)["models"]
    assert len(models) == 12
    assert models["Qwen3.5-4B-Thinking"] == {
        "name": "Qwen3.5-4B-Thinking",
        "limit": {"context": 32768, "output": 8192},
        "tool_call": True,
        "reasoning": True,
        "attachment": True,
        "modalities": {"input": ["text", "image"], "output": ["text"]},
    }
    assert models["GPT-OSS-20B-Low"]["modalities"]["input"] == ["text"]


def test_the_key_is_not_in_it() -> None:
    assert provider(SHIPPED, URL)["options"] == {"baseURL": URL, "apiKey": "{env:LLMUX_KEY}"}


@pytest.mark.parametrize(
    ("existing", "asked", "model", "small_model"),
    [
        ({}, None, "llmux/Qwen3.5-9B-FP8-Thinking", "llmux/Qwen3.5-9B-FP8-Instruct"),
        ({}, "GPT-OSS-20B-High", "llmux/GPT-OSS-20B-High", "llmux/GPT-OSS-20B-Low"),
        ({"model": "llmux/Qwen3.5-4B-Thinking"}, None, "llmux/Qwen3.5-4B-Thinking", "llmux/Qwen3.5-4B-Instruct"),
        ({"model": "llmux/gone"}, None, "llmux/Qwen3.5-9B-FP8-Thinking", "llmux/Qwen3.5-9B-FP8-Instruct"),
        ({"model": "other/large"}, None, "other/large", None),
        ({"small_model": "other/small"}, "GPT-OSS-20B-High", "llmux/GPT-OSS-20B-High", "other/small"),
    ],
)
def test_titles_never_push_out_the_model_that_works(
    existing: dict[str, Any], asked: str | None, model: str, small_model: str | None
) -> None:
    result = merged(existing, SHIPPED, URL, asked)
    assert (result["model"], result.get("small_model")) == (model, small_model)


def test_nothing_is_lost() -> None:
    existing = {
        "theme": "dark",
        "provider": {
            "other": {"npm": "x"},
            "llmux": {
                "options": {"timeout": 1, "baseURL": "http://old/v1"},
                "models": {"GPT-OSS-20B-Low": {"options": {"temperature": 0}}, "gone": {}},
            },
        },
    }
    result = merged(existing, SHIPPED, URL, None)
    assert result["theme"] == "dark"
    assert result["provider"]["other"] == {"npm": "x"}
    assert result["provider"]["llmux"]["options"] == {"timeout": 1, "baseURL": URL, "apiKey": "{env:LLMUX_KEY}"}
    assert result["provider"]["llmux"]["models"]["GPT-OSS-20B-Low"]["options"] == {"temperature": 0}
    assert "gone" not in result["provider"]["llmux"]["models"], "what the gateway no longer has"
    assert merged(result, SHIPPED, URL, None) == result


@pytest.mark.parametrize("broken", [{"provider": []}, {"provider": {"llmux": "x"}}])
def test_what_is_no_configuration_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is no object"):
        merged(broken, SHIPPED, URL, None)


def test_a_model_without_tools_is_taken_where_there_is_no_other() -> None:
    assert default_model(load_config(Path(__file__).parents[2] / "demo" / "litellm_config.yaml")) == "SmolLM2-135M"
