"""What Open WebUI is told. tests/clients/test_open_webui.py tells it to the real one."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmux.config import Config, load_config
from llmux.connection import Connection
from llmux.open_webui import Setup, default_task_model, task_parameters

SHIPPED = load_config(Path(__file__).parents[2] / "litellm_config.yaml")
CONNECTION = Connection("http://127.0.0.1:8081/v1", "sk-of-open-webui")
OPENAI = "https://api.openai.com/v1"


def setup(config: Config = SHIPPED, **options: Any) -> Setup:
    return Setup.of(config, CONNECTION, **{"model": None, "task_model": None, "hide_speech": False, **options})


def configured(tmp_path: Path, views: str) -> Config:
    """Chat models on one physical model, with these views."""
    entries = "".join(
        f"  - {{model_name: M{number}, litellm_params: {{model: llmux/m, view: {view}}}}}\n"
        for number, view in enumerate(views.split("; "))
    )
    model = "{task: llm, runtime: transformers, weights: m, estimate: 1 GB}"
    (tmp_path / "config.yaml").write_text(f"model_list:\n{entries}llmux: {{models: {{m: {model}}}}}")
    return load_config(tmp_path / "config.yaml")


def test_its_environment_holds_the_address_the_key_and_a_model_for_each_task() -> None:
    told = setup().environment()
    assert {name: value for name, value in told.items() if name.endswith("KEY")} == {
        "OPENAI_API_KEY": CONNECTION.key,
        "AUDIO_STT_OPENAI_API_KEY": CONNECTION.key,
        "AUDIO_TTS_OPENAI_API_KEY": CONNECTION.key,
    }
    assert {value for name, value in told.items() if name.endswith("URL")} == {CONNECTION.url}
    assert told["AUDIO_STT_MODEL"] == "cohere-transcribe"
    assert (told["AUDIO_TTS_MODEL"], told["AUDIO_TTS_VOICE"]) == ("Chatterbox-Turbo", "default")
    assert json.loads(told["DEFAULT_MODEL_METADATA"]) == {"capabilities": {"builtin_tools": False, "usage": True}}


def test_an_environment_is_plain_lines() -> None:
    assert all("\n" not in value and "#" not in value for value in setup(hide_speech=True).environment().values())


def test_all_names_are_listed_unless_speech_is_hidden() -> None:
    assert "OPENAI_API_CONFIGS" not in setup().environment()
    (connection,) = json.loads(setup(hide_speech=True).environment()["OPENAI_API_CONFIGS"]).values()
    assert len(connection["model_ids"]) == 12
    assert not {"cohere-transcribe", "Chatterbox"} & set(connection["model_ids"])


def test_titles_are_left_to_the_model_of_the_chat_where_another_would_swap(tmp_path: Path) -> None:
    assert default_task_model(SHIPPED) == ""
    assert default_task_model(configured(tmp_path, "{enable_thinking: true}; {enable_thinking: false}")) == "M1"
    assert setup(task_model="Qwen3.5-4B-Instruct").task_model == "Qwen3.5-4B-Instruct"


@pytest.mark.parametrize(
    ("views", "asked"),
    [
        ("{}", {}),
        ("{enable_thinking: false}", {}),
        ("{enable_thinking: true}", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("{enable_thinking: true, locked: true}", {}),
        ("{reasoning_effort: high}", {"reasoning_effort": "low"}),
        ("{reasoning_effort: high, locked: true}", {}),
        ("{reasoning_effort: low, locked: true}", {"reasoning_effort": "low"}),
    ],
)
def test_a_title_is_asked_for_without_thoughts_unless_a_view_would_refuse(
    tmp_path: Path, views: str, asked: dict[str, Any]
) -> None:
    assert task_parameters(configured(tmp_path, views)) == {"max_tokens": 512, **asked}


def form(urls: list[str], keys: list[str], configs: dict[str, Any]) -> dict[str, Any]:
    return {"OPENAI_API_BASE_URLS": urls, "OPENAI_API_KEYS": keys, "OPENAI_API_CONFIGS": configs, "FURTHER": 1}


OURS = {"enable": True, "model_ids": []}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (form([OPENAI], [""], {}), form([CONNECTION.url], [CONNECTION.key], {"0": OURS})),
        (form([OPENAI], ["sk-x"], {}), form([OPENAI, CONNECTION.url], ["sk-x", CONNECTION.key], {"1": OURS})),
        (form(["a", "b"], ["k"], {}), form(["a", "b", CONNECTION.url], ["k", "", CONNECTION.key], {"2": OURS})),
        (
            form([CONNECTION.url, "b"], ["old", "k"], {"0": {"enable": False, "tags": ["x"]}, "1": {}}),
            form([CONNECTION.url, "b"], [CONNECTION.key, "k"], {"0": {"tags": ["x"], **OURS}, "1": {}}),
        ),
    ],
)
def test_other_connections_stay(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert setup().connections(before) == {**after, "ENABLE_OPENAI_API": True}


def test_other_settings_stay() -> None:
    audio = setup().audio({"stt": {"WHISPER_MODEL": "x", "MODEL": ""}, "tts": {"SPLIT_ON": "y"}, "realtime": {}})
    assert audio["stt"] == {
        "WHISPER_MODEL": "x",
        "MODEL": "cohere-transcribe",
        "ENGINE": "openai",
        "OPENAI_API_BASE_URL": CONNECTION.url,
        "OPENAI_API_KEY": CONNECTION.key,
    }
    assert audio["tts"]["SPLIT_ON"] == "y"
    assert audio["realtime"] == {}
    assert setup().tasks({"ENABLE_TAGS_GENERATION": False})["ENABLE_TAGS_GENERATION"] is False
    models = setup().models({"DEFAULT_MODELS": "mine", "DEFAULT_MODEL_METADATA": {"capabilities": {"vision": False}}})
    assert models["DEFAULT_MODELS"] == "mine"
    named = setup(model="Qwen3.5-4B-Thinking").models({"DEFAULT_MODELS": "mine"})
    assert named["DEFAULT_MODELS"] == "Qwen3.5-4B-Thinking"
    assert models["DEFAULT_MODEL_METADATA"]["capabilities"] == {"vision": False, "builtin_tools": False, "usage": True}


def test_what_no_model_can_do_is_left_alone(tmp_path: Path) -> None:
    mute = setup(configured(tmp_path, "{}"))
    assert not [name for name in mute.environment() if name.startswith("AUDIO")]
    assert mute.audio({"stt": {"ENGINE": "x"}, "tts": {}}) == {"stt": {"ENGINE": "x"}, "tts": {}}
