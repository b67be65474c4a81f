"""What a template's text tells of its family, and what the markup of a call says."""

import json
from typing import Any

import pytest

from providers.markup import Markup, ToolCall, function_call, harmony_call, json_call, markup_of
from tests import templates


@pytest.mark.parametrize(
    ("template", "markup"),
    [
        (templates.QWEN, Markup("function", thinks=True)),
        (templates.HERMES, Markup("json", thinks=True)),
        (templates.GPT_OSS, Markup("harmony", thinks=False)),
        (templates.CHATML, Markup(None, thinks=False)),
        ("{{ '<think>' }}{{ '</think>' }}", Markup(None, thinks=True)),
        ("", Markup(None, thinks=False)),
    ],
)
def test_the_family_is_told_by_the_template(template: str, markup: Markup) -> None:
    assert markup_of(template) == markup


def test_each_call_has_an_id_of_its_own() -> None:
    first, second = ToolCall("f", "{}"), ToolCall("f", "{}")
    assert first.id != second.id
    assert first == second


# Qwen 3.5's markup


def tool(**properties: Any) -> list[dict[str, Any]]:
    defs = {"Place": {"type": "object"}, "Name": {"type": "string"}, "Loop": {"$ref": "#/$defs/Loop"}}
    parameters = {"type": "object", "properties": properties, "$defs": defs}
    return [{"type": "function", "function": {"name": "f", "parameters": parameters}}]


def body(**arguments: str) -> str:
    written = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in arguments.items())
    return f"\n<function=f>\n{written}</function>\n"


def argument(schema: object, text: str) -> Any:
    call = function_call(body(a=text), tool(a=schema))
    assert call is not None
    return json.loads(call.arguments)["a"]


def test_a_call_has_its_name_and_arguments_in_order() -> None:
    call = function_call(body(b="x", a="y"), tool())
    assert call == ToolCall("f", '{"b": "x", "a": "y"}')


def test_a_call_may_have_no_arguments() -> None:
    assert function_call("<function=f></function>", []) == ToolCall("f", "{}")


def test_only_the_markups_own_line_ends_are_taken_from_a_value() -> None:
    assert argument({"type": "string"}, "    indented\n\n") == "    indented\n\n"


def test_a_value_may_hold_markup() -> None:
    value = "<parameter=x>\n</parameter> and <function=g></function>\n</tool_call>"
    assert argument({"type": "string"}, value) == value


def test_a_text_that_others_need_not_escape_is_sent_as_it_is() -> None:
    assert argument({"type": "string"}, 'Zürich "\\n"') == 'Zürich "\\n"'


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, "[1]", "[1]"),
        ({"type": "integer"}, "5", 5),
        ({"type": "number"}, "0.5", 0.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "False", False),
        ({"type": "array"}, '["a"]', ["a"]),
        ({"type": "object"}, '{"x": 1}', {"x": 1}),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": ["string", "null"]}, "None", None),
        ({"type": ["string", "null"]}, "nothing", "nothing"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "7", 7),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "7", "7"),
        ({"$ref": "#/$defs/Place"}, '{"x": 1}', {"x": 1}),
        ({"$ref": "#/$defs/Name"}, "[1]", "[1]"),
        ({"$ref": "#/$defs/Nowhere"}, "5", "5"),
        ({"$ref": "#/$defs/Loop"}, "5", "5"),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({}, "5", "5"),
        ({}, "[5]", [5]),
        (None, "text", "text"),
        ({"type": "integer"}, "five", "five"),
        ({"type": "number"}, "NaN", "NaN"),
        ({"type": 5, "anyOf": 5, "enum": 5}, "5", "5"),
    ],
)
def test_a_value_is_what_the_tools_schema_wants(schema: object, text: str, value: object) -> None:
    assert argument(schema, text) == value


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "text",
        "<function=f>",
        "<function=f>\n<parameter=a>\n1\n</function>",
        "<function=f>\n<parameter=a>\n1\n</parameter>\n",
        "<function=f>\ntext\n</function>",
        "<function=></function>",
        "<function= ></function>",
        '{"name": "f", "arguments": {}}',
    ],
)
def test_markup_that_is_not_whole_is_no_call(broken: str) -> None:
    assert function_call(broken, tool()) is None


# JSON


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"name": "f", "arguments": {"a": 1}}', '{"a": 1}'),
        ('\n{"name": "f", "parameters": {"a": "ä"}}\n', '{"a": "ä"}'),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', '{"a": 1}'),
        ('{"name": "f"}', "{}"),
    ],
)
def test_a_call_is_an_object_with_name_and_arguments(written: str, arguments: str) -> None:
    assert json_call(written) == ToolCall("f", arguments)


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "{",
        "[]",
        '{"name": 5, "arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "text"}',
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f", "arguments": {"a": 1e999}}',
        '{"name": "f", "arguments": {"a": "\\ud800"}}',
        '{"name": "f", "arguments": ' + "[" * 100_000,
    ],
)
def test_what_is_no_such_object_is_no_call(broken: str) -> None:
    assert json_call(broken) is None


# Harmony


def test_a_message_to_a_function_is_its_arguments() -> None:
    assert harmony_call("f", '{"a": 1}') == ToolCall("f", '{"a": 1}')
    assert harmony_call("f", " ") == ToolCall("f", "{}")


@pytest.mark.parametrize("broken", ['{"a": ', "5", "text"])
def test_a_message_that_is_no_object_is_no_call(broken: str) -> None:
    assert harmony_call("f", broken) is None
