"""How a family of models writes its reasoning and its calls of tools, told from the chat template's own text.

thinking   <think> ... </think>                       Qwen 3 and 3.5, DeepSeek R1 and their like
function   <tool_call> <function=f> <parameter=a> ...  Qwen 3.5, Qwen3-Coder
json       <tool_call> {"name": ..., "arguments": ...} Hermes, Qwen 2.5 and 3 (NousResearch's Hermes function calling)
harmony    <|channel|>commentary to=functions.f ...    gpt-oss (OpenAI's harmony response format)
"""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

Calls = Literal["harmony", "function", "json"]

_TYPES: Mapping[type, str] = {
    bool: "boolean",
    dict: "object",
    float: "number",
    int: "integer",
    list: "array",
    str: "string",
    type(None): "null",
}
"""What Python's json makes of each JSON type."""


@dataclass(frozen=True, slots=True)
class Markup:
    """calls: how the template has calls written; None: it knows no tools
    thinks: whether it knows <think>
    """

    calls: Calls | None
    thinks: bool


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model made. arguments: the text of a JSON object"""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}", compare=False)


@lru_cache(maxsize=64)
def markup_of(template: str) -> Markup:
    """What a chat template's text says of the answers that its model gives."""
    if "<|channel|>" in template and "<|message|>" in template:
        return Markup("harmony", thinks=False)
    thinks = "</think>" in template
    if "<tool_call>" not in template:
        return Markup(None, thinks)
    return Markup("function" if "<function=" in template else "json", thinks)


_FUNCTION = re.compile(r"\s*<function=(?P<name>[^>\n]+)>(?P<parameters>.*)</function>\s*", re.DOTALL)
_PARAMETER = re.compile(
    # One newline at each side belongs to the markup; all other white space is the value's own, such as indentation.
    r"\s*<parameter=(?P<name>[^>\n]+)>\n?(?P<value>.*?)\n?</parameter>\s*(?=<parameter=|\Z)",
    re.DOTALL,
)


def function_call(body: str, tools: Sequence[Mapping[str, Any]]) -> ToolCall | None:
    """What stands between <tool_call> and </tool_call> in Qwen 3.5's markup; None where it is not whole.

    Arguments are written there as bare text: the tool's schema says which of them are more.
    """
    found = _FUNCTION.fullmatch(body)
    if found is None:
        return None
    name, rest = found["name"].strip(), found["parameters"]
    schema = (
        next((tool["function"].get("parameters") for tool in tools if tool["function"]["name"] == name), None) or {}
    )
    arguments = {}
    while rest.strip():
        parameter = _PARAMETER.match(rest)
        if parameter is None:
            return None
        key = parameter["name"].strip()
        arguments[key] = _typed(parameter["value"], _property(schema, key), schema)
        rest = rest[parameter.end() :]
    return _call(name, arguments)


def json_call(body: str) -> ToolCall | None:
    """What stands between <tool_call> and </tool_call> in Hermes' markup; None where it is not whole."""
    call = _json(body)
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    return _call(call["name"], _json(arguments) if isinstance(arguments, str) else arguments)


def harmony_call(name: str, body: str) -> ToolCall | None:
    """A message to functions.<name> in harmony; None where it is not whole. No arguments at all are an empty object."""
    return _call(name, _json(body if body.strip() else "{}"))


def _call(name: str, arguments: object) -> ToolCall | None:
    if not name or not isinstance(arguments, dict):
        return None
    try:
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        written.encode()
    except ValueError:  # a number that is too large, or half of a surrogate pair
        return None
    return ToolCall(name, written)


def _json(text: str) -> Any:
    """None where it is no JSON as others read it."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _property(schema: Mapping[str, Any], name: str) -> object:
    properties = schema.get("properties")
    return properties.get(name) if isinstance(properties, Mapping) else None


def _typed(text: str, wanted: object, schema: Mapping[str, Any]) -> Any:
    """An argument as its schema wants it: the text itself, or what it says in JSON.

    Where the schema leaves it open, only a whole object or array is taken for one.
    """
    types = json_types(wanted, schema)
    if "string" in types and not ("null" in types and text.strip() in ("null", "None")):
        return text
    bare = text.strip()
    value = _json({"True": "true", "False": "false", "None": "null"}.get(bare, bare))
    if value is None:
        return None if bare in ("null", "None") and "null" in types else text
    return value if types or isinstance(value, dict | list) else text


def json_types(wanted: object, schema: Mapping[str, Any], depth: int = 8) -> set[str]:
    """The JSON types that a schema allows, as far as it names them.

    schema: the one that `wanted` is a part of, and whose references it uses
    """
    if not isinstance(wanted, Mapping) or depth == 0:
        return set()
    declared = wanted.get("type")
    types = {each for each in (declared if isinstance(declared, list) else [declared]) if isinstance(each, str)}
    values = [wanted["const"]] if "const" in wanted else wanted.get("enum")
    if not types and isinstance(values, list):
        types |= {_TYPES[type(value)] for value in values if type(value) in _TYPES}
    if isinstance(reference := wanted.get("$ref"), str):
        types |= json_types(_referred(reference, schema), schema, depth - 1)
    for union in ("anyOf", "oneOf", "allOf"):
        choices = wanted.get(union)
        for choice in choices if isinstance(choices, list) else ():
            types |= json_types(choice, schema, depth - 1)
    return types


def resolved(wanted: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 8) -> Mapping[str, Any]:
    """A schema with what it refers to in place of its own `$ref`."""
    found = _referred(wanted["$ref"], schema) if isinstance(wanted.get("$ref"), str) else None
    if not isinstance(found, Mapping) or depth == 0:
        return wanted
    return {**resolved(found, schema, depth - 1), **{key: wanted[key] for key in wanted if key != "$ref"}}


def _referred(reference: str, schema: Mapping[str, Any]) -> object:
    """What a reference inside the tool's own schema, such as #/$defs/Place, points to."""
    found: object = schema
    for key in reference.removeprefix("#/").split("/"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
