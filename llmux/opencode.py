"""OpenCode's configuration for this gateway, and how it goes into one that is there.

The names are OpenCode's, tried with version 1.18.33.
"""

import copy
from collections.abc import Mapping
from typing import Any

from llmux.catalogue import names, quickest, thinks
from llmux.config import Config

PROVIDER = "llmux"
KEY_VARIABLE = "LLMUX_KEY"

_ANSWER_SHARE = 4
"""An answer may take one part in so many of the context: OpenCode compacts a session that leaves less room."""


def provider(config: Config, url: str) -> Mapping[str, Any]:
    """The block of this gateway. The key stays in the environment."""
    return {
        "npm": "@ai-sdk/openai-compatible",
        "name": "llmux",
        "options": {"baseURL": url, "apiKey": f"{{env:{KEY_VARIABLE}}}"},
        "models": {name: _model(config, name) for name in names(config, "llm")},
    }


def _model(config: Config, name: str) -> Mapping[str, Any]:
    physical = config.physical(name)
    inputs = ["text", "image"] if "vision" in physical.capabilities else ["text"]
    return {
        "name": name,
        "limit": {"context": physical.context, "output": physical.context // _ANSWER_SHARE},
        "tool_call": "tools" in physical.capabilities,
        "reasoning": thinks(config, name),
        "attachment": "image" in inputs,
        "modalities": {"input": inputs, "output": ["text"]},
    }


def default_model(config: Config) -> str | None:
    """The first chat model that can call tools, or else the first; None where there is none."""
    chats = names(config, "llm")
    able = [name for name in chats if "tools" in config.physical(name).capabilities]
    return next(iter([*able, *chats]), None)


def merged(existing: Mapping[str, Any], config: Config, url: str, model: str | None) -> Mapping[str, Any]:
    """An OpenCode configuration with this gateway in it; everything else as it was.

    Titles are written by a view of the physical model that works, so that they never push it out. Another provider's
    model stays chosen unless one is asked for here, and so does another provider's model for titles.

    model: what OpenCode is to work with. Raises ValueError where existing is no configuration of OpenCode's.
    """
    result = {"$schema": "https://opencode.ai/config.json", **copy.deepcopy(dict(existing))}
    providers = _object(result, "provider")
    ours, new = _object(providers, PROVIDER), provider(config, url)
    options = {**_object(ours, "options"), **new["options"]}
    known = _object(ours, "models")
    models = {name: {**_object(known, name), **model} for name, model in new["models"].items()}
    result["provider"] = {**providers, PROVIDER: {**ours, **new, "options": options, "models": models}}
    chosen = model or _own(result.get("model"), config)
    if chosen is not None:
        result["model"] = f"{PROVIDER}/{chosen}"
        if str(result.get("small_model", PROVIDER)).partition("/")[0] == PROVIDER:
            result["small_model"] = f"{PROVIDER}/{quickest(config, chosen)}"
    return result


def _object(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{name} in it is no object")
    return value


def _own(configured: object, config: Config) -> str | None:
    """The model of this gateway that is configured, or one where none is; None where it is another provider's."""
    owner, _, name = str(configured or f"{PROVIDER}/").partition("/")
    if owner != PROVIDER:
        return None
    return name if name in names(config, "llm") else default_model(config)
