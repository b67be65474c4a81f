from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmux.config import load_config
from llmux.litellm_settings import environment, litellm_config
from llmux.secrets import UI_PASSWORD_VARIABLE

ENTRY: dict[str, Any] = {"model_name": "Small", "litellm_params": {"model": "llmux/small"}}


def rendered(
    folder: Path,
    *entries: dict[str, Any],
    database: str = "none",
    cors_origins: Sequence[str] = (),
    **sections: Any,
) -> dict[str, Any]:
    """LiteLLM's configuration for these entries of model_list and these other sections."""
    models = {"small": {"task": "asr", "runtime": "transformers", "weights": "org/small", "estimate": "1 GB"}}
    path = folder / "config.yaml"
    settings = {"database": database, "cors_origins": list(cors_origins), "models": models}
    path.write_text(yaml.safe_dump({"model_list": list(entries or (ENTRY,)), "llmux": settings, **sections}))
    return litellm_config(load_config(path))


def test_a_model_is_free_and_never_probed(tmp_path: Path) -> None:
    info = rendered(tmp_path)["model_list"][0]["model_info"]
    assert info["input_cost_per_token"] == 0
    assert info["disable_background_health_check"] is True


def test_a_price_of_the_users_stays(tmp_path: Path) -> None:
    priced = {**ENTRY, "model_info": {"input_cost_per_token": 0.1}}
    assert rendered(tmp_path, priced)["model_list"][0]["model_info"]["input_cost_per_token"] == 0.1


@pytest.mark.parametrize("price", ["input_cost_per_second", "input_cost_per_character"])
def test_sound_that_is_priced_is_not_free_by_the_token_or_budgets_would_not_hold(tmp_path: Path, price: str) -> None:
    priced = {**ENTRY, "model_info": {price: 0.1}}
    info = rendered(tmp_path, priced)["model_list"][0]["model_info"]
    assert info[price] == 0.1
    assert "input_cost_per_token" not in info


def test_a_model_belongs_to_the_group_of_its_task_beside_those_of_the_users(tmp_path: Path) -> None:
    grouped = {**ENTRY, "model_info": {"access_groups": ["family"]}}
    assert rendered(tmp_path, grouped)["model_list"][0]["model_info"]["access_groups"] == ["transcription", "family"]


def test_a_model_of_another_provider_is_left_alone(tmp_path: Path) -> None:
    other = {"model_name": "Cloud", "litellm_params": {"model": "openai/gpt"}}
    assert rendered(tmp_path, other)["model_list"] == [other]


def test_a_users_setting_wins_unless_security_hangs_on_it(tmp_path: Path) -> None:
    config = rendered(
        tmp_path,
        router_settings={"num_retries": 2},
        general_settings={"custom_auth_run_common_checks": False},
    )
    assert config["router_settings"] == {"num_retries": 2, "disable_cooldowns": True}
    assert config["general_settings"]["custom_auth_run_common_checks"] is True


def test_spend_is_kept_where_there_is_a_database(tmp_path: Path) -> None:
    assert rendered(tmp_path)["general_settings"]["disable_spend_logs"] is True
    assert "disable_spend_logs" not in rendered(tmp_path, database="embedded")["general_settings"]


def test_spend_is_written_within_seconds_or_as_the_user_says(tmp_path: Path) -> None:
    assert rendered(tmp_path, database="embedded")["general_settings"]["proxy_batch_write_at"] == 5
    given = rendered(tmp_path, database="embedded", general_settings={"proxy_batch_write_at": 60})
    assert given["general_settings"]["proxy_batch_write_at"] == 60
    assert "proxy_batch_write_at" not in rendered(tmp_path)["general_settings"]


def test_the_admin_ui_is_there_with_a_database_and_its_password_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(UI_PASSWORD_VARIABLE, raising=False)
    rendered(tmp_path, database="none")
    assert environment(load_config(tmp_path / "config.yaml"))["DISABLE_ADMIN_UI"] == "True"
    rendered(tmp_path, database="embedded")
    variables = environment(load_config(tmp_path / "config.yaml"))
    assert "DISABLE_ADMIN_UI" not in variables
    assert (tmp_path / "state/ui_password").read_text().strip() == variables[UI_PASSWORD_VARIABLE]


def test_a_page_of_another_host_may_call_only_where_the_configuration_names_it(tmp_path: Path) -> None:
    def origins(**given: Any) -> str:
        rendered(tmp_path, **given)
        return environment(load_config(tmp_path / "config.yaml"))["LITELLM_CORS_ORIGINS"]

    assert [origin for origin in origins().split(",") if origin] == []
    assert origins() != "", "LiteLLM would take it for any origin"
    assert origins(cors_origins=["https://chat.example.org"]) == "https://chat.example.org"
