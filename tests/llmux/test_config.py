from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.config import ConfigError, View, load_config, parse_bytes

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"

GOOD = """\
model_list:
  - model_name: Small
    litellm_params: {model: llmux/small, view: {enable_thinking: false}}
  - model_name: Voice
    litellm_params: {model: llmux/voice}
llmux:
  budget: 2 GB
  models:
    small:
      task: llm
      runtime: llama.cpp
      weights: org/small
      file: small.gguf
      estimate: 1 GB
    voice:
      task: tts
      runtime: hibari
      estimate: 100 MB
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, before: str, after: str) -> str:
    assert before in GOOD
    with pytest.raises(ConfigError) as raised:
        load_config(write(folder, GOOD.replace(before, after, 1)))
    return str(raised.value).replace(str(folder), "")


def test_the_shipped_configuration_has_the_16_names_and_9_models() -> None:
    config = load_config(SHIPPED)
    assert len(config.virtual) == 16
    assert len(config.settings.models) == 9
    assert {view.physical for view in config.virtual.values()} == set(config.settings.models)
    assert config.settings.host == "127.0.0.1"


def test_images_are_taken_from_nowhere_else_unless_the_configuration_names_it(tmp_path: Path) -> None:
    defaults = load_config(write(tmp_path, GOOD)).settings.images
    assert defaults == load_config(SHIPPED).settings.images
    assert defaults.hosts == ()


def test_a_virtual_model_is_a_view_of_a_physical_one(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.virtual["Small"].view == View(enable_thinking=False)
    assert config.physical("Small").file == "small.gguf"
    assert config.settings.models["voice"].estimate == 100_000_000


def test_an_alias_stands_for_a_name_and_is_not_listed(tmp_path: Path) -> None:
    aliases = "router_settings: {model_group_alias: {gpt-4: Small, whisper-1: {model: Small, hidden: true}}}\n"
    config = load_config(write(tmp_path, aliases + GOOD))

    assert list(config.virtual) == list(load_config(write(tmp_path, GOOD)).virtual)
    small = config.virtual["Small"]
    assert [config.named(name) for name in ("Small", "gpt-4", "whisper-1", "gpt-5")] == [small, small, small, None]


@pytest.mark.parametrize("to", ["Smal", "{hidden: true}", "7"])
def test_an_alias_for_nothing_is_a_mistake(tmp_path: Path, to: str) -> None:
    with pytest.raises(ConfigError, match=r":1: router_settings\.model_group_alias\.gpt-4: .* is not in model_list"):
        load_config(write(tmp_path, f"router_settings: {{model_group_alias: {{gpt-4: {to}}}}}\n" + GOOD))


def test_models_stay_absent_until_asked_for_and_resident_until_in_the_way_unless_told_otherwise(tmp_path: Path) -> None:
    changed = GOOD.replace("runtime: hibari\n", "runtime: hibari\n      pin: true\n      preload: true\n")
    changed = changed.replace("file: small.gguf\n", "file: small.gguf\n      idle_unload_s: 600\n")
    models = load_config(write(tmp_path, changed)).settings.models

    voice, small = models["voice"], models["small"]
    assert (voice.pin, voice.preload, voice.idle_unload_s) == (True, True, None)
    assert (small.pin, small.preload, small.idle_unload_s) == (False, False, 600)


def test_litellms_aliases_are_further_names_of_models(tmp_path: Path) -> None:
    aliases = "router_settings: {model_group_alias: {tts-1: Voice, gpt-4: {model: Small, hidden: true}}}\n"
    assert load_config(write(tmp_path, aliases + GOOD)).aliases == {"tts-1": "Voice", "gpt-4": "Small"}
    assert load_config(write(tmp_path, GOOD)).aliases == {}


def test_relative_folders_are_beside_the_configuration(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.models_dir == tmp_path / "models"
    assert config.state_dir == tmp_path / "state"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("budget: 2 GB", "budgett: 2 GB", ":7: llmux.budgett: unknown key; did you mean 'budget'?"),
        ("runtime: hibari", "runtme: hibari", ":17: llmux.models.voice.runtme: unknown key; did you mean 'runtime'?"),
        ("enable_thinking", "enable_thinkin", ":3: model_list.0.litellm_params.view.enable_thinkin: unknown key"),
        ("model_list", "model_lst", ":1: model_lst: unknown section; did you mean 'model_list'?"),
        ("      estimate: 1 GB\n", "", ":9: llmux.models.small.estimate: missing"),
        ("llmux/small", "llmux/smal", "which is not under llmux.models; did you mean 'small'?"),
        ("runtime: hibari", "runtime: whisper", ":17: llmux.models.voice.runtime: Input should be"),
        ("runtime: hibari", "runtime: llama.cpp", "runtime llama.cpp does not serve task tts"),
        ("budget: 2 GB", "budget: 2", ":7: llmux.budget: a size needs a number and a unit"),
        ("budget: 2 GB", "budget: 2 XB", ":7: llmux.budget: a size needs a number and a unit"),
        ("file: small.gguf", "file: ../../x.gguf", "names below models_dir, without '..'"),
        ("file: small.gguf", "projector: x.gguf", "needs `weights` (the folder) and `file`"),
        ("budget: 2 GB", "workers: 2", "workers must be 1"),
        ("budget: 2 GB", "budget: 0 GB", ":7: llmux.budget: a size must be above zero"),
        ("budget: 2 GB", "cors_origins: ['*']", ":7: llmux.cors_origins.0: an origin is a scheme and a host"),
        ("budget: 2 GB", "cors_origins: [https://chat.example.org/]", ":7: llmux.cors_origins.0: an origin is"),
        ("view:", "veiw:", ":3: model_list.0.litellm_params.veiw: unknown key; did you mean 'view'?"),
        (
            "estimate: 1 GB",
            "estimate: 1 GB\n      idle_unload_s: 0",
            ":15: llmux.models.small.idle_unload_s: Input should",
        ),
        ("model_name: Voice", "model_name: Small", "Small is listed twice"),
        ("    voice:", "    small:", ":15: small: given twice"),
        ("  models:", "  models: [", "not YAML"),
        ("llmux:\n", "general_settings:\n", ":1: llmux: section missing"),
    ],
)
def test_a_mistake_is_refused_with_line_key_and_what_was_meant(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert said in refusal(tmp_path, before, after)


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config"):
        load_config(tmp_path / "none.yaml")


@given(st.integers(1, 10**6), st.sampled_from([("MB", 10**6), ("GB", 10**9), ("MiB", 2**20), ("GiB", 2**30)]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: tuple[str, int]) -> None:
    assert parse_bytes(f"{number} {unit[0]}") == number * unit[1]
