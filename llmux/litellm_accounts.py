"""What LiteLLM does not look up for our models, since its answer is known: the use of one without a limit, the price of
one that costs nothing.

For each answer it copies all that it knows about the model twice, some two hundred prices, to find that no limit is
set, and reads them three times to find that nothing is to be paid: a sixth of the calls that an answer of 24 tokens
took (docs/measurements.md).
"""

from collections.abc import Mapping
from typing import Any

import litellm
from litellm.litellm_core_utils import litellm_logging
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.router import Router

from llmux.config import PROVIDER

_LIMITS = ("tpm", "rpm", "itpm", "otpm")


def install() -> None:
    """Put the shorter way in place. Call once a process."""
    count, price = Router._increment_deployment_usage, Logging.response_cost_calculator

    async def counted(self: Router, *, deployment_id: str, **more: Any) -> str | None:
        entry = self.get_model_info(deployment_id)
        if entry is not None and is_ours(entry) and not has_limit(entry):
            return None
        counted_tokens: str | None = await count(self, deployment_id=deployment_id, **more)
        return counted_tokens

    def priced(self: Logging, *given: Any, **more: Any) -> float | None:
        details = self.model_call_details
        added = litellm.cost_margin_config or details.get("additional_response_cost")
        if details.get("custom_llm_provider") == PROVIDER and not added and is_free(self.litellm_params):
            return 0.0
        to_pay: float | None = price(self, *given, **more)
        return to_pay

    Router._increment_deployment_usage = counted
    Logging.response_cost_calculator = priced


def is_ours(entry: Mapping[str, Any]) -> bool:
    """Of the model list. What limits others' models have, LiteLLM knows by itself."""
    return str(entry["litellm_params"]["model"]).startswith(f"{PROVIDER}/")


def has_limit(entry: Mapping[str, Any]) -> bool:
    places = (entry, entry["litellm_params"], entry.get("model_info") or {})
    return any(place.get(limit) is not None for place in places for limit in _LIMITS)


def is_free(params: Mapping[str, Any]) -> bool:
    """Each of our entries has prices (litellm_settings.py).

    params: of a request, completed by LiteLLM's router with the entry's model_info, which no client can write
    """
    info = params.get("model_info") or {}
    prices = [info[name] for name in litellm_logging._MODEL_INFO_CUSTOM_PRICING_KEYS & info.keys()]
    others = [params[name] for name in litellm_logging._CUSTOM_PRICING_KEYS & params.keys()]
    return bool(prices) and not any((*prices, *others))
