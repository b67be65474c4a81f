"""What a chat request says beside its messages, checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from llmux.config import View
from llmux.errors import InvalidRequest
from providers.runtime import Sampling

_STOPS = 4
"""Stop strings that a request may name, as at OpenAI."""

_CHOICES = 8
"""Answers that a request may ask for."""

_ALTERNATIVES = 20
"""Likely tokens that a request may ask for beside each one picked, as at OpenAI."""

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""OpenAI's reasoning efforts. A template that knows efforts knows the three in the middle; they are what is nearest."""

_RENDERERS_OWN = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversations",
        "documents",
        "messages",
        "return_assistant_tokens_mask",
        "tools",
    }
)
"""Names that rendering gives its own values to."""


Tools = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Parameters:
    """stop: texts that end the answer and are not part of it
    tools: what the model is told of
    demanded: those of which it must call one, if any are
    parallel: whether the answer may hold several calls of tools
    options: what is handed to the chat template, such as enable_thinking
    schema: what the text of the answer must be, as JSON, if anything
    choices: how many answers are wanted
    """

    sampling: Sampling
    stop: tuple[str, ...] = ()
    tools: Tools = ()
    demanded: Tools = ()
    parallel: bool = True
    options: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | None = None
    choices: int = 1

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Parameters":
        """From the body of a request. Raises InvalidRequest, naming the parameter, for what cannot be served."""
        if given.get("functions"):
            raise InvalidRequest("functions are called tools now: send tools instead", param="functions")
        sampling = Sampling(
            max_tokens=_integer(given, "max_tokens", least=1),
            temperature=_number(given, "temperature", 0, 2),
            top_p=_number(given, "top_p", 0, 1, above=True),
            top_k=_top_k(given),
            min_p=_number(given, "min_p", 0, 1),
            frequency_penalty=_number(given, "frequency_penalty", -2, 2),
            presence_penalty=_number(given, "presence_penalty", -2, 2),
            repetition_penalty=_number(given, "repetition_penalty", 0, 10, above=True),
            logit_bias=_logit_bias(given),
            seed=_integer(given, "seed"),
            logprobs=_logprobs(given),
        )
        tools, demanded, single = _tools_of(given)
        return cls(
            sampling,
            stop=_stop(given),
            tools=tools,
            demanded=demanded,
            parallel=_boolean(given, "parallel_tool_calls") is not False and not single,
            options=_options(given),
            schema=_schema(given),
            choices=_integer(given, "n", least=1, most=_CHOICES) or 1,
        )


def _boolean(given: Mapping[str, Any], name: str) -> bool | None:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false", param=name)
    return value


def _integer(given: Mapping[str, Any], name: str, *, least: int | None = None, most: int | None = None) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    outside = isinstance(value, int) and ((least is not None and value < least) or (most is not None and value > most))
    if not isinstance(value, int) or isinstance(value, bool) or outside:
        bound = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
        raise InvalidRequest(f"{name} must be a whole number{bound}", param=name)
    return value


def _number(given: Mapping[str, Any], name: str, least: float, most: float, *, above: bool = False) -> float | None:
    """above: the least value itself is refused too"""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidRequest(f"{name} must be a number from {least} to {most}", param=name)
    if above and value == least:
        raise InvalidRequest(f"{name} must be above {least}", param=name)
    return float(value)


def _top_k(given: Mapping[str, Any]) -> int | None:
    top_k = _integer(given, "top_k", least=-1)
    return 0 if top_k == -1 else top_k  # vLLM's word for all


def _logit_bias(given: Mapping[str, Any]) -> dict[int, float] | None:
    biases = given.get("logit_bias")
    if not biases and (biases is None or isinstance(biases, Mapping)):
        return None
    try:
        parsed = {int(token): float(bias) for token, bias in biases.items()}
    except (AttributeError, TypeError, ValueError):
        parsed = {}
    if not parsed or min(parsed) < 0 or not all(math.isfinite(bias) and abs(bias) <= 100 for bias in parsed.values()):
        raise InvalidRequest("logit_bias must map token ids to numbers from -100 to 100", param="logit_bias")
    return parsed


def _stop(given: Mapping[str, Any]) -> tuple[str, ...]:
    value = given.get("stop") or ()
    stops = (value,) if isinstance(value, str) else value
    if not isinstance(stops, (list, tuple)) or len(stops) > _STOPS or not all(isinstance(s, str) and s for s in stops):
        raise InvalidRequest(f"stop must be a text or a list of up to {_STOPS} texts, none of them empty", param="stop")
    return tuple(stops)


def _tools(given: Mapping[str, Any]) -> Tools:
    tools = given.get("tools") or ()
    if not isinstance(tools, (list, tuple)) or not all(_is_function(tool) for tool in tools):
        raise InvalidRequest("tools must be a list of objects with a function that has a name", param="tools")
    return tuple(tools)


def _tools_of(given: Mapping[str, Any]) -> tuple[Tools, Tools, bool]:
    """The tools that the model is told of, those of which one must be called, and whether only one may be called."""
    tools, choice = _tools(given), given.get("tool_choice") or "auto"
    if choice == "none":
        return (), (), False
    if choice == "auto":
        return tools, (), False
    if choice == "required":
        if not tools:
            raise InvalidRequest("tool_choice is required, and there are no tools", param="tool_choice")
        return tools, tools, False
    name = _name_of(choice)
    return tools, (_named(tools, name),), True


def _name_of(choice: object) -> str:
    function = choice.get("function") if isinstance(choice, Mapping) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise InvalidRequest(
            "tool_choice must be none, auto, required, or an object that names a function", param="tool_choice"
        )
    return name


def _named(tools: Tools, name: str) -> Mapping[str, Any]:
    for tool in tools:
        if tool["function"]["name"] == name:
            return tool
    raise InvalidRequest(f"tool_choice names {name!r}, and there is no such tool", param="tool_choice")


def _schema(given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    form = given.get("response_format")
    kind = form.get("type") if isinstance(form, Mapping) else None
    if form is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    described = form.get("json_schema") if kind == "json_schema" else None
    schema = described.get("schema", {}) if isinstance(described, Mapping) else None
    if not isinstance(schema, Mapping):
        raise InvalidRequest(
            "response_format must be an object of type text, json_object, or json_schema with a schema",
            param="response_format",
        )
    return schema


def _logprobs(given: Mapping[str, Any]) -> int | None:
    """How many alternatives are wanted beside each token; None: nothing."""
    top = _integer(given, "top_logprobs", least=0, most=_ALTERNATIVES)
    if _boolean(given, "logprobs"):
        return top or 0
    if top:
        raise InvalidRequest("top_logprobs takes logprobs to be true", param="top_logprobs")
    return None


def _is_function(tool: object) -> bool:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return (
        isinstance(function, Mapping)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("parameters"), Mapping | None)
    )


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The view's, and above them what the request asks for."""
    try:
        view = View.model_validate(given.get("view") or {})
    except ValidationError:
        raise InvalidRequest("view takes enable_thinking, reasoning_effort and locked", param="view") from None
    options: dict[str, Any] = view.model_dump(exclude_none=True, exclude={"locked"})
    for param, asked in _asked(given):
        for name, value in asked.items():
            if view.locked and options.get(name, value) != value:
                raise InvalidRequest(
                    f"{name} is fixed for this model; ask another of GET /v1/models, or leave it out", param=param
                )
            options[name] = value
    return options


def _asked(given: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What the request asks the template for, with the parameter that does; later ones win."""
    asked: list[tuple[str, Mapping[str, Any]]] = []
    if (effort := given.get("reasoning_effort")) is not None:
        asked.append(("reasoning_effort", _effort(effort)))
    if (thinking := given.get("thinking")) is not None:
        asked.append(("thinking", _thinking(thinking)))
    if (enabled := _boolean(given, "enable_thinking")) is not None:
        asked.append(("enable_thinking", {"enable_thinking": enabled}))
    more = given.get("chat_template_kwargs") or {}
    if not isinstance(more, Mapping) or _RENDERERS_OWN.intersection(more):
        raise InvalidRequest(
            "chat_template_kwargs must be an object of what the template takes, such as enable_thinking",
            param="chat_template_kwargs",
        )
    _boolean(more, "enable_thinking")
    asked.append(("chat_template_kwargs", more))
    return asked


def _effort(effort: object) -> dict[str, Any]:
    if effort not in _EFFORTS:
        raise InvalidRequest(f"reasoning_effort must be one of {', '.join(_EFFORTS)}", param="reasoning_effort")
    known = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}.get(str(effort), effort)
    return {"reasoning_effort": known, **({"enable_thinking": False} if effort == "none" else {})}


def _thinking(thinking: object) -> dict[str, Any]:
    """Anthropic's switch, {"type": "enabled" or "disabled"}; "adaptive" leaves it to the model."""
    kind = thinking.get("type") if isinstance(thinking, Mapping) else None
    if kind not in ("enabled", "disabled", "adaptive"):
        raise InvalidRequest("thinking must be an object whose type is enabled, disabled or adaptive", param="thinking")
    return {} if kind == "adaptive" else {"enable_thinking": kind == "enabled"}
