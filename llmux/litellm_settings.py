"""What LiteLLM is told: the user's own sections, and the settings without which a local gateway misbehaves.

Each setting below was found by what went wrong without it; docs/architecture.md says what.
"""

import copy
from collections.abc import Mapping
from typing import Any

from llmux.config import PROVIDER, Config, Task
from llmux.secrets import UI_PASSWORD_VARIABLE, ui_password
from llmux.weights import local_kernels

ENVIRONMENT: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or each start spends 10 s on looking for a newer one
    "LITELLM_CORS_ALLOW_CREDENTIALS": "false",  # a page of another host brings a key, never the admin's cookies
    "NO_DOCS": "True",
    "NO_REDOC": "True",
    "NO_OPENAPI": "True",
    "HF_HUB_OFFLINE": "1",  # weights are fetched by `llmux weights`, never by a request
    "TOKENIZERS_PARALLELISM": "false",
    "GOMP_SPINCOUNT": "20000",  # 0.2 ms: a thread that waits longer starves other models, one that sleeps wakes late
    "OMP_WAIT_POLICY": "ACTIVE",  # the same with several models loaded: 1,000 spins, and 100 where nothing is said
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
    },
}
"""A user's own value wins."""

WITHOUT_DATABASE: Mapping[str, Mapping[str, Any]] = {
    "litellm_settings": {"enable_post_custom_auth_checks": True},
    "general_settings": {"custom_auth_run_common_checks": True, "disable_spend_logs": True},
}
"""Without the first two a named key's list of models is not enforced: no value of the user's can win."""

WITH_DATABASE: Mapping[str, Mapping[str, Any]] = {
    "general_settings": {
        "proxy_batch_write_at": 5,  # spend, every 5 to 10 s: so much a kill may cost
        "maximum_spend_logs_retention_period": "90d",  # refusals are logged, too: or strangers would fill the disk
    },
}
"""A user's own value wins here, too."""

ACCESS_GROUPS: Mapping[Task, str] = {"llm": "chat", "asr": "transcription", "tts": "speech"}
"""Names that a key's list of models may hold for all models of a task, whichever these are by then."""

FREE: Mapping[str, float] = {"input_cost_per_token": 0, "output_cost_per_token": 0}
"""For a model that is free by the token LiteLLM looks at no budget, whatever else the model costs."""

OTHER_PRICES = frozenset(["input_cost_per_second", "input_cost_per_character"])
"""Of a recording that is transcribed, and of a text that is spoken."""

_PASSED_THROUGH = ("reasoning_effort", "thinking", "verbosity")
"""Parameters that LiteLLM refuses for a provider unless they are listed per model."""


def environment(config: Config) -> Mapping[str, str]:
    """What LiteLLM reads from the environment. The admin UI is of no use where nothing keeps what one does in it.

    Raises ValueError for a secret that cannot be used.
    """
    origins = {"LITELLM_CORS_ORIGINS": ",".join(config.settings.cors_origins) or ","}  # LiteLLM takes "" for any origin
    kernels = local_kernels(config.settings.models.values(), config.models_dir)
    shared = {**ENVIRONMENT, **origins, **({"LOCAL_KERNELS": kernels} if kernels else {})}
    if config.settings.database == "none":
        return {**shared, "DISABLE_ADMIN_UI": "True"}
    return {**shared, UI_PASSWORD_VARIABLE: ui_password(config.state_dir)}


def litellm_config(config: Config) -> dict[str, Any]:
    """LiteLLM's configuration, from its sections of litellm_config.yaml."""
    rendered: dict[str, Any] = copy.deepcopy(dict(config.litellm))
    has_database = config.settings.database != "none"
    usual, required = (WITH_DATABASE, {}) if has_database else ({}, WITHOUT_DATABASE)
    for name in DEFAULTS:
        given = rendered.get(name) or {}
        rendered[name] = {**DEFAULTS[name], **usual.get(name, {}), **given, **required.get(name, {})}
    rendered["model_list"] = [_entry(entry, config) for entry in rendered["model_list"]]
    return rendered


def _entry(entry: dict[str, Any], config: Config) -> dict[str, Any]:
    """A model of llmux's costs nothing unless priced, is never probed, takes its dialect's own parameters, and belongs
    to its task's group.
    """
    provider, _, physical = entry["litellm_params"]["model"].partition("/")
    if provider != PROVIDER:
        return entry
    given = entry.get("model_info") or {}
    info = {
        "input_cost_per_second": 0,  # a price that makes LiteLLM look at the others
        **({} if OTHER_PRICES.intersection(given) else FREE),
        "disable_background_health_check": True,
        **given,
        "access_groups": [ACCESS_GROUPS[config.settings.models[physical].task], *given.get("access_groups", ())],
    }
    params = {"allowed_openai_params": list(_PASSED_THROUGH), **entry["litellm_params"]}
    return {**entry, "litellm_params": params, "model_info": info}
