"""What a chat request says beside its messages, checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from llmux.config import View
from llmux.errors import InvalidRequest
from providers.runtime import Sampling

_STOPS = 4
"""Stop strings that a request may name, as at OpenAI."""

_UNSUPPORTED: Mapping[str, Sequence[object]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto", "none"),
    "functions": ([],),
}
"""Parameters that would change the answer and are not served, with the values that ask for nothing."""

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


@dataclass(frozen=True, slots=True)
class Parameters:
    """stop: texts that end the answer and are not part of it
    parallel: whether the answer may hold several calls of tools
    options: what is handed to the chat template, such as enable_thinking
    """

    sampling: Sampling
    stop: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    parallel: bool = True
    options: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Parameters":
        """From the body of a request. Raises InvalidRequest, naming the parameter, for what cannot be served."""
        for name, harmless in _UNSUPPORTED.items():
            if given.get(name) is not None and given[name] not in harmless:
                raise InvalidRequest(f"{name} is not supported with this value by this model", param=name)
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
        )
        tools = () if given.get("tool_choice") == "none" else _tools(given)
        parallel = _boolean(given, "parallel_tool_calls") is not False
        return cls(sampling, _stop(given), tools, parallel, _options(given))


def _boolean(given: Mapping[str, Any], name: str) -> bool | None:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false", param=name)
    return value


def _integer(given: Mapping[str, Any], name: str, *, least: int | None = None) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
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


def _tools(given: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    tools = given.get("tools") or ()
    if not isinstance(tools, (list, tuple)) or not all(_is_function(tool) for tool in tools):
        raise InvalidRequest("tools must be a list of objects with a function that has a name", param="tools")
    return tuple(tools)


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
