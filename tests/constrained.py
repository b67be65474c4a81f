"""What is asked of answers that are held to something, and whether they are that."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

from providers.generation import Step, generate
from providers.markup import ToolCall
from providers.parameters import Parameters
from providers.reply import Text
from providers.runtime import ChatRuntime

SCHEMAS: list[Mapping[str, Any]] = [
    {"enum": ["yes", "no", None, 7]},
    {"type": "integer", "minimum": -20, "maximum": 300},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    {
        "type": "object",
        "properties": {"a": {"type": "string", "maxLength": 6}, "b": {"anyOf": [{"type": "null"}, {"const": "ü"}]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,3}$"},
    {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "kind": {"enum": ["leaf", "tree"]},
                    "below": {"type": "array", "items": {"$ref": "#/$defs/Node"}, "maxItems": 1},
                },
                "required": ["kind"],
                "additionalProperties": False,
            }
        },
    },
]

PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 5},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["C", "F"]},
        "where": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
        "code": {"type": "string", "pattern": "^[a-z]{2}$"},
    },
    "required": ["city", "where"],
    "additionalProperties": False,
    "$defs": {
        "Place": {
            "type": "object",
            "properties": {"north": {"type": "boolean"}},
            "required": ["north"],
            "additionalProperties": False,
        }
    },
}
NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS: list[Mapping[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "ping"}},
]

_HI = [{"role": "user", "content": "Hi"}]
_WIDE = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""So that models with random weights say anything."""


@dataclass(frozen=True)
class Answer:
    text: str
    calls: list[ToolCall]
    finish_reason: str | None
    tokens: int


async def ask(runtime: ChatRuntime, **given: Any) -> Answer:
    parameters = Parameters.parse({"max_tokens": 400, **_WIDE, **given})
    steps: list[Step] = [step async for step in generate(runtime, _HI, parameters)]
    parts = [part for step in steps for part in step.parts]
    return Answer(
        "".join(part.text for part in parts if isinstance(part, Text) and not part.reasoning),
        [part for part in parts if isinstance(part, ToolCall)],
        steps[-1].finish_reason,
        sum(step.tokens for step in steps),
    )


def is_of(schema: Mapping[str, Any], answer: Answer) -> None:
    """An answer that was cut says so; every other one is what was asked for."""
    if answer.finish_reason != "length":
        assert answer.finish_reason == "stop"
        jsonschema.validate(json.loads(answer.text), schema)


def is_a_call(answer: Answer, *, most: int | None = None) -> None:
    if answer.finish_reason == "length":
        return
    assert answer.finish_reason == "tool_calls"
    assert answer.text.strip() == ""
    assert 1 <= len(answer.calls) <= (most or len(answer.calls))
    for call in answer.calls:
        jsonschema.validate(json.loads(call.arguments), {"weather": PARAMETERS, "ping": NOTHING}[call.name])


async def hold(runtime: ChatRuntime, answers: int) -> int:
    """Asks for so many constrained answers, each beside a free one, and checks each. How many were not cut."""

    async def one(number: int) -> bool:
        schema = SCHEMAS[number % len(SCHEMAS)]
        form = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
        held, free = await asyncio.gather(
            ask(runtime, response_format=form, seed=number, enable_thinking=False),
            ask(runtime, max_tokens=4, seed=number, enable_thinking=False),
        )
        is_of(schema, held)
        assert free.tokens == 4 or free.finish_reason == "stop"
        return held.finish_reason != "length"

    whole = 0
    for start in range(0, answers, 4):
        whole += sum(await asyncio.gather(*(one(number) for number in range(start, min(start + 4, answers)))))
    return whole
