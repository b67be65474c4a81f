"""What LiteLLM is told: the user's own sections, and the settings without which a local gateway misbehaves.

Each setting below was found by what went wrong without it; docs/architecture.md says what.
"""

import copy
from collections.abc import Mapping
from typing import Any

from llmux.config import PROVIDER

ENVIRONMENT: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or each start spends 10 s on looking for a newer one
    "NO_DOCS": "True",
    "NO_REDOC": "True",
    "NO_OPENAPI": "True",
    "DISABLE_ADMIN_UI": "True",
    "HF_HUB_OFFLINE": "1",  # weights are fetched by `llmux weights`, never by a request
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # models share the cores: a thread that spins for its next task starves the others
}
"""Read by LiteLLM, transformers and OpenMP while they are imported, so to be set before."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "litellm_settings": {
        "request_timeout": 3600,
        "drop_params": False,
        "telemetry": False,
    },
    "router_settings": {
        "num_retries": 0,
        "disable_cooldowns": True,
    },
    "general_settings": {
        "background_health_checks": False,
        "cancel_on_disconnect": True,
        "disable_spend_logs": True,
    },
}
"""A user's own value wins."""

REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "litellm_settings": {"enable_post_custom_auth_checks": True},
    "general_settings": {"custom_auth_run_common_checks": True},
}
"""Without these a key's list of models is not enforced: no value of the user's can win."""

_PASSED_THROUGH = ("reasoning_effort", "thinking", "verbosity")
"""Parameters that LiteLLM refuses for a provider unless they are listed per model."""


def litellm_config(sections: Mapping[str, Any]) -> dict[str, Any]:
    """LiteLLM's configuration, from its sections of litellm_config.yaml."""
    rendered: dict[str, Any] = copy.deepcopy(dict(sections))
    for name in DEFAULTS:
        rendered[name] = {**DEFAULTS[name], **(rendered.get(name) or {}), **REQUIRED.get(name, {})}
    rendered["model_list"] = [_entry(entry) for entry in rendered["model_list"]]
    return rendered


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """A model of llmux's costs nothing unless priced, is never probed, and takes its dialect's own parameters."""
    if not entry["litellm_params"]["model"].startswith(f"{PROVIDER}/"):
        return entry
    free = {"input_cost_per_token": 0, "output_cost_per_token": 0, "input_cost_per_second": 0}
    info = {**free, "disable_background_health_check": True, **(entry.get("model_info") or {})}
    params = {"allowed_openai_params": list(_PASSED_THROUGH), **entry["litellm_params"]}
    return {**entry, "litellm_params": params, "model_info": info}
