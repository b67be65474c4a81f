from typing import Any

from llmux.litellm_settings import litellm_config

ENTRY: dict[str, Any] = {"model_name": "Small", "litellm_params": {"model": "llmux/small"}}


def test_a_model_is_free_and_never_probed() -> None:
    info = litellm_config({"model_list": [ENTRY]})["model_list"][0]["model_info"]
    assert info["input_cost_per_token"] == 0
    assert info["disable_background_health_check"] is True


def test_a_price_of_the_users_stays() -> None:
    priced = {**ENTRY, "model_info": {"input_cost_per_token": 0.1}}
    assert litellm_config({"model_list": [priced]})["model_list"][0]["model_info"]["input_cost_per_token"] == 0.1


def test_a_model_of_another_provider_is_left_alone() -> None:
    other = {"model_name": "Cloud", "litellm_params": {"model": "openai/gpt"}}
    assert litellm_config({"model_list": [other]})["model_list"] == [other]


def test_a_users_setting_wins_unless_security_hangs_on_it() -> None:
    rendered = litellm_config(
        {
            "model_list": [ENTRY],
            "router_settings": {"num_retries": 2},
            "general_settings": {"custom_auth_run_common_checks": False},
        }
    )
    assert rendered["router_settings"] == {"num_retries": 2, "disable_cooldowns": True}
    assert rendered["general_settings"]["custom_auth_run_common_checks"] is True


def test_the_users_sections_are_not_changed() -> None:
    sections = {"model_list": [ENTRY]}
    litellm_config(sections)
    assert sections == {"model_list": [{"model_name": "Small", "litellm_params": {"model": "llmux/small"}}]}
