"""What a request may say beside its messages, and what it is told where it may not."""

from typing import Any

import pytest

from llmux.errors import InvalidRequest
from providers.parameters import Parameters
from providers.runtime import Sampling

TOOLS = [{"type": "function", "function": {"name": "f"}}]


def options(**given: Any) -> dict[str, Any]:
    return dict(Parameters.parse(given).options or {})


def test_parameters_become_sampling() -> None:
    given = {
        "max_tokens": 5,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 20,
        "min_p": 0.05,
        "frequency_penalty": -1,
        "presence_penalty": 1.5,
        "repetition_penalty": 1.1,
        "logit_bias": {"17": -100, "18": 1},
        "seed": -3,
        "stop": ["a", "b"],
    }
    parameters = Parameters.parse(given)
    assert parameters.sampling == Sampling(
        max_tokens=5,
        temperature=0,
        top_p=0.5,
        top_k=20,
        min_p=0.05,
        frequency_penalty=-1,
        presence_penalty=1.5,
        repetition_penalty=1.1,
        logit_bias={17: -100, 18: 1},
        seed=-3,
    )
    assert parameters.stop == ("a", "b")


def test_what_is_not_given_is_left_to_the_model() -> None:
    nothing: dict[str, Any] = {
        "max_tokens": None,
        "stop": "",
        "tools": None,
        "n": 1,
        "logprobs": False,
        "logit_bias": {},
    }
    assert Parameters.parse(nothing) == Parameters.parse({}) == Parameters(Sampling(), options={})


def test_all_tokens_may_be_asked_for_in_two_ways() -> None:
    assert Parameters.parse({"top_k": -1}).sampling.top_k == Parameters.parse({"top_k": 0}).sampling.top_k == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", -2),
        ("top_k", 1.5),
        ("min_p", 1.5),
        ("frequency_penalty", 3),
        ("presence_penalty", "0.5"),
        ("repetition_penalty", 0),
        ("logit_bias", [1]),
        ("logit_bias", {"word": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"1": float("nan")}),
        ("logit_bias", {"1": [2]}),
        ("seed", "7"),
        ("stop", ["a", ""]),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", 5),
        ("n", 0),
        ("n", 9),
        ("logprobs", 3),
        ("top_logprobs", 2),
        ("top_logprobs", 21),
        ("response_format", {"type": "grammar"}),
        ("response_format", {"type": "json_schema"}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": 5}}),
        ("functions", [{"name": "f"}]),
        ("tool_choice", "required"),
        ("tool_choice", "must"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("tool_choice", {"type": "function"}),
        ("tool_choice", {"type": "allowed_tools"}),
        ("parallel_tool_calls", "no"),
        ("tools", "f"),
        ("tools", [{"type": "function"}]),
        ("tools", [{"type": "function", "function": {"name": 5}}]),
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": "a"}}]),
        ("view", {"thinking": True}),
        ("view", 5),
        ("reasoning_effort", "extreme"),
        ("reasoning_effort", 5),
        ("thinking", "on"),
        ("thinking", {"type": "sometimes"}),
        ("enable_thinking", "yes"),
        ("chat_template_kwargs", "enable_thinking"),
        ("chat_template_kwargs", {"tools": []}),
        ("chat_template_kwargs", {"add_generation_prompt": False}),
    ],
)
def test_a_value_that_cannot_be_served_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Parameters.parse({name: value})
    assert refused.value.param == name
    assert name in str(refused.value)


PAIR = [{"type": "function", "function": {"name": name}} for name in "fg"]


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


def test_tools_are_kept_from_the_template_where_none_may_be_called() -> None:
    assert Parameters.parse({"tools": TOOLS, "tool_choice": "auto"}).tools == tuple(TOOLS)
    assert Parameters.parse({"tools": TOOLS, "tool_choice": "none"}).tools == ()


def test_calls_are_parallel_unless_the_request_says_no() -> None:
    assert Parameters.parse({}).parallel
    assert not Parameters.parse({"parallel_tool_calls": False}).parallel


def test_the_view_asks_the_template_where_the_request_does_not() -> None:
    assert options(view={"enable_thinking": False}) == {"enable_thinking": False}
    assert options(view={"reasoning_effort": "high"}) == {"reasoning_effort": "high"}


@pytest.mark.parametrize(
    "asked",
    [
        {"enable_thinking": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"thinking": {"type": "disabled"}},
        {"enable_thinking": True, "chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_the_request_has_the_last_word_on_thinking(asked: dict[str, Any]) -> None:
    assert options(view={"enable_thinking": True}, **asked) == {"enable_thinking": False}


def test_thinking_can_be_left_to_the_model() -> None:
    assert options(view={"enable_thinking": True}, thinking={"type": "adaptive"}) == {"enable_thinking": True}


@pytest.mark.parametrize(("asked", "known"), [("minimal", "low"), ("low", "low"), ("high", "high"), ("xhigh", "high")])
def test_an_effort_is_the_nearest_that_templates_know(asked: str, known: str) -> None:
    assert options(view={"reasoning_effort": "medium"}, reasoning_effort=asked) == {"reasoning_effort": known}


def test_no_effort_at_all_is_no_thinking_where_a_template_knows_that() -> None:
    assert options(view={"enable_thinking": True}, reasoning_effort="none") == {
        "reasoning_effort": "low",
        "enable_thinking": False,
    }


def test_an_effort_does_not_switch_thinking_on() -> None:
    assert options(view={"enable_thinking": False}, reasoning_effort="high")["enable_thinking"] is False


def test_other_words_for_the_template_are_passed_on() -> None:
    assert options(chat_template_kwargs={"add_vision_id": True}) == {"add_vision_id": True}


@pytest.mark.parametrize(
    ("view", "asked"),
    [
        ({"enable_thinking": False}, {"enable_thinking": True}),
        ({"enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": True}}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
    ],
)
def test_a_locked_view_refuses_another_wish(view: dict[str, Any], asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="is fixed for this model") as refused:
        Parameters.parse({"view": {**view, "locked": True}, **asked})
    assert refused.value.param in asked


def test_a_locked_view_takes_the_same_wish_and_others() -> None:
    view = {"enable_thinking": False, "locked": True}
    assert options(view=view, enable_thinking=False, chat_template_kwargs={"add_vision_id": True}) == {
        "enable_thinking": False,
        "add_vision_id": True,
    }


def test_a_call_may_be_demanded_of_any_tool_or_of_one() -> None:
    def parsed(choice: object) -> Parameters:
        return Parameters.parse({"tools": PAIR, "tool_choice": choice})

    assert parsed("required").demanded == tuple(PAIR)
    assert parsed("required").parallel
    assert (parsed(named("g")).tools, parsed(named("g")).demanded) == (tuple(PAIR), (PAIR[1],))
    assert not parsed(named("g")).parallel, "a function that is named is called once"


def test_json_is_any_object_or_what_a_schema_says() -> None:
    def schema(form: object) -> object:
        return Parameters.parse({"response_format": form}).schema

    assert schema({"type": "text"}) is None
    assert schema({"type": "json_object"}) == {"type": "object"}
    assert schema({"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [1]}}}) == {"enum": [1]}


def test_logprobs_are_told_with_as_many_alternatives_as_are_wanted() -> None:
    assert Parameters.parse({"logprobs": True}).sampling.logprobs == 0
    assert Parameters.parse({"logprobs": True, "top_logprobs": 4}).sampling.logprobs == 4
    assert Parameters.parse({"logprobs": False, "top_logprobs": 0}).sampling.logprobs is None
