"""What an answer must be, for each family: random tokens that the grammar lets through are read as what was asked."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema
import numpy as np
import pytest

from llmux.errors import InvalidRequest
from providers.constraint import Vocabulary
from providers.grammar import grammar_of
from providers.markup import Markup, ToolCall
from providers.reply import Reply, Text
from tests.constrained import NOTHING, PARAMETERS, SCHEMAS, TOOLS
from tests.vocabularies import CONTROL, ENDS, TOKENS, tokens_of, vocabulary

HERMES = Markup("json", thinks=True)
QWEN = Markup("function", thinks=True)
HARMONY = Markup("harmony", thinks=False)
PLAIN = Markup(None, thinks=False)

SILENT = "<think>\n\n</think>\n\n"
THINKING = "<think>\n"
STARTED = "<|start|>assistant"
FAMILIES = [(HERMES, SILENT), (HERMES, ""), (HERMES, THINKING), (QWEN, SILENT), (QWEN, THINKING), (HARMONY, STARTED)]
WALKS = 12


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return vocabulary()


def said(words: Vocabulary, grammar: str, seed: int, most: int = 2500) -> str:
    """Any answer that the grammar allows."""
    matcher, draw, tokens = words.matcher(grammar), np.random.default_rng(seed), b""
    close = {TOKENS.index(b"</think>"), TOKENS.index(b"<|end|>")}
    for _ in range(most):
        choice = np.flatnonzero(matcher.allowed())
        soon = [token for token in choice if token in close]
        token = int(draw.choice(soon if soon and draw.random() < 0.1 else choice))
        matcher.accept(token)
        if token in ENDS:
            return tokens.decode()
        tokens += TOKENS[token]
    raise AssertionError("the grammar lets no answer end")


def read(markup: Markup, prompt: str, answer: str, tools: Sequence[Mapping[str, Any]]) -> tuple[str, list[ToolCall]]:
    reply = Reply(markup, prompt, tools=tools)
    parts = [*reply.feed(answer), *reply.finish()]
    text = "".join(part.text for part in parts if isinstance(part, Text) and not part.reasoning)
    return text, [part for part in parts if isinstance(part, ToolCall)]


def valid(call: ToolCall) -> None:
    jsonschema.validate(json.loads(call.arguments), {"weather": PARAMETERS, "ping": NOTHING}[call.name])


@pytest.mark.parametrize(("markup", "prompt"), [*FAMILIES, (PLAIN, "")])
def test_what_is_said_is_of_its_schema(words: Vocabulary, markup: Markup, prompt: str) -> None:
    for seed in range(WALKS):
        schema = SCHEMAS[seed % len(SCHEMAS)]
        grammar = grammar_of(markup, prompt, control_tokens=CONTROL, schema=schema)
        text, _ = read(markup, prompt, said(words, grammar, seed), ())
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(("markup", "prompt"), FAMILIES)
def test_a_call_is_whole_and_its_arguments_are_of_their_schema(words: Vocabulary, markup: Markup, prompt: str) -> None:
    grammar = grammar_of(markup, prompt, control_tokens=CONTROL, calls=TOOLS)
    for seed in range(WALKS):
        text, calls = read(markup, prompt, said(words, grammar, seed), TOOLS)
        assert (text.strip(), bool(calls)) == ("", True)
        for call in calls:
            valid(call)


@pytest.mark.parametrize(("markup", "prompt"), FAMILIES)
def test_one_call_is_one(words: Vocabulary, markup: Markup, prompt: str) -> None:
    grammar = grammar_of(markup, prompt, control_tokens=CONTROL, calls=TOOLS[1:], several=False)
    for seed in range(WALKS):
        assert [call.name for call in read(markup, prompt, said(words, grammar, seed), TOOLS)[1]] == ["ping"]


@pytest.mark.parametrize(("markup", "prompt"), FAMILIES)
def test_an_answer_of_a_schema_may_call_instead(words: Vocabulary, markup: Markup, prompt: str) -> None:
    kinds = set()
    grammar = grammar_of(markup, prompt, control_tokens=CONTROL, schema=SCHEMAS[1], calls=TOOLS[1:])
    for seed in range(40):
        text, calls = read(markup, prompt, said(words, grammar, seed), TOOLS)
        kinds.add(bool(calls))
        if not calls:
            jsonschema.validate(json.loads(text), SCHEMAS[1])
    assert kinds == {True, False}


@pytest.mark.parametrize(
    ("markup", "answer"),
    [
        (HERMES, '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'),
        (QWEN, "\n\n<tool_call>\n<function=ping>\n</function>\n</tool_call>"),
        (
            QWEN,
            "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=where>\n"
            '{"north": true}\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=ping>\n</function>\n'
            "</tool_call>",
        ),
        (HARMONY, "<|channel|>commentary to=functions.ping <|constrain|>json<|message|>{}"),
        (
            HARMONY,
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.ping"
            "<|message|>{ }",
        ),
    ],
)
def test_calls_as_models_write_them_are_let_through(words: Vocabulary, markup: Markup, answer: str) -> None:
    matcher = words.matcher(grammar_of(markup, SILENT, control_tokens=CONTROL, calls=TOOLS))
    for token in tokens_of(answer):
        assert matcher.allowed()[token], TOKENS[token]
        matcher.accept(token)
    assert matcher.allowed()[ENDS[0]]


def test_markup_that_is_no_control_token_is_text(words: Vocabulary) -> None:
    """Some tokenizers make control tokens of <think> and <tool_call>, and the grammar names them as such."""
    grammar = grammar_of(QWEN, THINKING, control_tokens=("</think>", "<tool_call>", "</tool_call>"), calls=TOOLS)
    assert "</think>\n" in grammar
    assert '"<tool_call>"' not in grammar


@pytest.mark.parametrize(
    "name",
    ['a"b', "täglich", "a\\b", "%json", "x/y", "a b"],
    ids=["quote", "umlaut", "backslash", "rule", "slash", "space"],
)
@pytest.mark.parametrize(("markup", "prompt"), [(HERMES, SILENT), (QWEN, SILENT)])
def test_names_are_data(words: Vocabulary, markup: Markup, prompt: str, name: str) -> None:
    parameters = {"type": "object", "properties": {name: {"enum": [name]}}, "required": [name]}
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {**parameters, "additionalProperties": False}}}
    ]
    answer = said(words, grammar_of(markup, prompt, control_tokens=CONTROL, calls=tools, several=False), 1)
    (call,) = read(markup, prompt, answer, tools)[1]
    assert (call.name, json.loads(call.arguments)) == (name, {name: name})


def test_a_model_without_tools_says_so() -> None:
    with pytest.raises(InvalidRequest, match="knows no tools"):
        grammar_of(PLAIN, "", control_tokens=(), calls=TOOLS)


# Arguments as Qwen 3.5 writes them


def one(schema: Mapping[str, Any], **more: Any) -> list[dict[str, Any]]:
    parameters = {"type": "object", "properties": {"a": schema}, "required": ["a"], **more}
    return [{"type": "function", "function": {"name": "f", "parameters": parameters}}]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 4},
        {"type": "string", "pattern": "^a+$", "minLength": 2, "maxLength": 4},
        {"type": "string", "pattern": "[0-9]", "maxLength": 5},
        {"enum": ["x", "", "\n"]},
        {"enum": [1, "1", None]},
        {"enum": [1, 2]},
        {"const": False},
        {"type": ["string", "null"], "maxLength": 3},
        {"type": ["string", "null"], "pattern": "^a+$"},
        {"type": ["string", "null"], "enum": ["u", "v", None]},
        {"anyOf": [{"type": "string", "enum": ["u"]}, {"type": "integer"}]},
        {"anyOf": [{"enum": ["u", "v"]}, {"type": "string", "pattern": "^[0-9]$"}, {"type": "null"}]},
        {"oneOf": [{"const": "u"}, {"const": "v"}]},
        {"type": "integer", "minimum": 3, "maximum": 5},
        {"type": "array", "items": {"$ref": "#/$defs/Unit"}, "maxItems": 2},
        {"$ref": "#/$defs/Unit"},
        {"description": "anything", "maxLength": 3},
    ],
)
def test_each_argument_is_of_its_schema(words: Vocabulary, schema: dict[str, Any]) -> None:
    tools = one(schema, **{"$defs": {"Unit": {"enum": ["C", "F"]}}})
    parameters = tools[0]["function"]["parameters"]
    grammar = grammar_of(QWEN, SILENT, control_tokens=CONTROL, calls=tools, several=False)
    for seed in range(WALKS):
        (call,) = read(QWEN, SILENT, said(words, grammar, seed), tools)[1]
        jsonschema.validate(json.loads(call.arguments), parameters)


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"oneOf": [{"const": "u"}, {"const": "v"}]}, {"u", "v"}),
        ({"anyOf": [{"enum": ["u", "v"]}, {"type": "null"}]}, {"u", "v", None}),
        ({"anyOf": [{"$ref": "#/$defs/Unit"}, {"const": "u"}, {"type": "null"}]}, {"C", "F", "u", None}),
        ({"type": ["string", "null"], "enum": ["u", None]}, {"u", None}),
        ({"enum": ["u", None, 7]}, {"u", None}),
        ({"$ref": "#/$defs/Again"}, {"u"}),
    ],
)
def test_each_value_that_bare_text_can_tell_may_be_chosen(
    words: Vocabulary, schema: dict[str, Any], values: set[str | None]
) -> None:
    again = {"anyOf": [{"$ref": "#/$defs/Again"}, {"const": "u"}]}
    tools = one(schema, **{"$defs": {"Unit": {"enum": ["C", "F"]}, "Again": again}})
    grammar = grammar_of(QWEN, SILENT, control_tokens=CONTROL, calls=tools, several=False)
    calls = [read(QWEN, SILENT, said(words, grammar, seed), tools)[1][0] for seed in range(40)]
    assert {json.loads(call.arguments)["a"] for call in calls} == values


@pytest.mark.parametrize(
    ("tools", "part"),
    [
        (one({"oneOf": [{"type": "string", "maxLength": 3}, {"const": "x"}]}), "oneOf"),
        (one({"type": "string"}, minProperties=2), "minProperties"),
        (one({"type": "string", "not": {"const": "x"}}), "not"),
        (one({"type": "string", "pattern": "^a|b$"}), "pattern"),
        (one({"type": "string"}, required=["a", "b>"]), "b>"),
    ],
)
def test_what_bare_text_cannot_be_held_to_is_refused_by_name(tools: Any, part: str) -> None:
    with pytest.raises(InvalidRequest, match=part) as refused:
        grammar_of(QWEN, SILENT, control_tokens=CONTROL, calls=tools)
    assert refused.value.param == "tools"
