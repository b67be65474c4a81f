"""What LiteLLM does not look up for our models would have said the same."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import litellm
import pytest
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.llm_response_utils.response_metadata import ResponseMetadata
from litellm.router import Router

from llmux import litellm_accounts
from llmux.litellm_accounts import has_limit, is_free, is_ours
from llmux.litellm_settings import FREE
from tests.providers.test_chat import HI, Scripted, provider

ENTRY = {"model": "llmux/small"}
PRICED = {"input_cost_per_token": 0.5, "output_cost_per_token": 1.0}


@pytest.fixture
def installed() -> Iterator[list[str]]:
    """What LiteLLM looked up by itself."""
    looked: list[str] = []
    before = Router._increment_deployment_usage, Logging.response_cost_calculator, litellm.custom_provider_map
    count, price, _ = before

    async def counted(self: Router, **given: Any) -> Any:
        looked.append("counted")
        return await count(self, **given)

    def priced(self: Logging, *given: Any, **more: Any) -> Any:
        looked.append("priced")
        return price(self, *given, **more)

    Router._increment_deployment_usage, Logging.response_cost_calculator = counted, priced
    litellm_accounts.install()
    yield looked
    Router._increment_deployment_usage, Logging.response_cost_calculator, litellm.custom_provider_map = before


@pytest.mark.parametrize("limit", ["tpm", "rpm", "itpm", "otpm"])
@pytest.mark.parametrize("place", ["entry", "litellm_params", "model_info"])
def test_a_limit_is_found_wherever_it_is_set(limit: str, place: str) -> None:
    entry: dict[str, Any] = {"litellm_params": {**ENTRY}, "model_info": {}}
    assert not has_limit({**entry, limit: None})
    (entry if place == "entry" else entry[place])[limit] = 5
    assert has_limit(entry)


@pytest.mark.parametrize(("model", "ours"), [("llmux/small", True), ("openai/llmux/small", False), ("gpt", False)])
def test_others_models_are_left_to_litellm(model: str, ours: bool) -> None:
    assert is_ours({"litellm_params": {"model": model}}) is ours


@pytest.mark.parametrize(
    ("params", "info", "free"),
    [
        ({}, {**FREE, "input_cost_per_second": 0}, True),
        ({}, {**FREE, "input_cost_per_second": 0.1}, False),
        ({}, PRICED, False),
        ({"input_cost_per_token": 0.1}, FREE, False),
        ({}, {**FREE, "off_peak_pricing": [{"hours": "0-6"}]}, False),
        ({}, {}, False),
        ({}, {"id": "entry"}, False),
    ],
)
def test_free_is_what_has_prices_and_each_is_nothing(
    params: Mapping[str, Any], info: Mapping[str, Any], free: bool
) -> None:
    assert is_free({**params, "model_info": info}) is free


@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
def test_what_a_client_may_have_written_makes_nothing_free(place: str) -> None:
    assert not is_free({place: {"model_info": FREE}, "model_info": PRICED})
    assert not is_free({place: {"model_info": FREE}})


def router(entry: Mapping[str, dict[str, Any]]) -> litellm.Router:
    litellm.custom_provider_map = [{"provider": "llmux", "custom_handler": provider(Scripted("Hel", "lo"))}]
    litellm.utils.custom_llm_setup()
    entry["model_info"]["id"] = uuid4().hex  # LiteLLM keeps prices by it, as long as the process lives
    return litellm.Router(model_list=[{"model_name": "Small", "litellm_params": {**ENTRY, "view": {}}, **entry}])


@pytest.mark.parametrize("limits", [{}, {"rpm": 5}])
async def test_the_use_of_a_model_is_counted_where_it_has_a_limit(
    installed: list[str], limits: Mapping[str, int]
) -> None:
    await router({"model_info": {**limits}}).acompletion(model="Small", messages=HI)
    assert ("counted" in installed) is bool(limits)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("prices", "cost"), [({**FREE, "input_cost_per_second": 0}, 0.0), (PRICED, 7 * 0.5 + 3 * 1.0)])
async def test_an_answer_costs_what_its_prices_say(
    installed: list[str], prices: Mapping[str, float], cost: float, stream: bool
) -> None:
    told: Any = await router({"model_info": {**prices}}).acompletion(
        model="Small", messages=HI, stream=stream, stream_options={"include_usage": True} if stream else None
    )
    if stream:
        usage = [chunk async for chunk in told][-1].usage
        assert getattr(usage, "cost", 0.0) == cost
    else:
        assert told._hidden_params["response_cost"] == cost
    assert ("priced" in installed) is bool(cost)


async def test_what_is_charged_on_top_is_charged_for_what_is_free(
    installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "cost_margin_config", {"global": {"fixed_amount": 0.25}})
    prices = {**FREE, "input_cost_per_second": 0}
    told: Any = await router({"model_info": prices}).acompletion(model="Small", messages=HI)
    assert told._hidden_params["response_cost"] == 0.25
    assert "priced" in installed


def test_litellm_still_has_what_is_replaced() -> None:
    """When this fails, look at what LiteLLM does now: llmux/litellm_accounts.py may have become useless, or wrong."""
    assert "get_router_model_info" in Router._increment_deployment_usage.__code__.co_names
    assert "response_cost_calculator" in ResponseMetadata.set_hidden_params.__code__.co_names
