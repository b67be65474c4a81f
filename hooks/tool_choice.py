"""A choice among some of a request's tools, which LiteLLM does not know: the others are left out instead."""

from collections.abc import Mapping
from typing import Any

from llmux.errors import InvalidRequest

_MODES = ("auto", "required")


def narrow(data: dict[str, Any]) -> None:
    """Make of `tool_choice: {"type": "allowed_tools", ...}` the tools that it allows, and its mode.

    Chat completions and responses each have a shape of their own for it, and for tools.
    Raises InvalidRequest for a choice that cannot be made.
    """
    choice = data.get("tool_choice")
    if not isinstance(choice, Mapping) or choice.get("type") != "allowed_tools":
        return
    allowed = choice.get("allowed_tools", choice)
    mode, listed = (allowed.get("mode"), allowed.get("tools")) if isinstance(allowed, Mapping) else (None, None)
    if mode not in _MODES or not isinstance(listed, list) or not listed:
        raise InvalidRequest(
            "tool_choice of type allowed_tools takes a mode, auto or required, and tools", param="tool_choice"
        )
    tools = {_name(tool): tool for tool in data.get("tools") or ()}
    names = [_name(tool) for tool in listed]
    missing = [name for name in names if name is None or name not in tools]
    if missing:
        raise InvalidRequest(f"tool_choice allows {missing[0]!r}, and there is no such tool", param="tool_choice")
    data["tools"] = [tools[name] for name in dict.fromkeys(names)]
    data["tool_choice"] = mode


def _name(tool: object) -> str | None:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None
