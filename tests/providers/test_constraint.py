"""Which tokens may come next, and which schemas can be held."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from llmux.errors import InvalidRequest
from providers.constraint import Vocabulary, check_schema, json_rule, vocabulary_of
from tests.vocabularies import ENDS, TOKENS, tokens_of, vocabulary

YES = f"start: {json_rule({'enum': ['yes', 'no']})}"


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return vocabulary()


def allowed(words: Vocabulary, grammar: str, begun: str = "") -> list[bytes]:
    matcher = words.matcher(grammar)
    for token in tokens_of(begun):
        matcher.accept(token)
    return [TOKENS[token] for token in np.flatnonzero(matcher.allowed())]


def test_only_what_the_grammar_goes_on_with_is_allowed(words: Vocabulary) -> None:
    assert allowed(words, YES) == [b'"']
    assert allowed(words, YES, '"') == [b"n", b"y"]
    assert allowed(words, YES, '"y') == [b"e"]


def test_a_whole_answer_only_ends(words: Vocabulary) -> None:
    assert allowed(words, YES, '"no"') == [TOKENS[end] for end in ENDS]


def test_a_matcher_says_when_it_is_done(words: Vocabulary) -> None:
    matcher = words.matcher(YES)
    done = [matcher.done]
    for token in tokens_of('"no"'):
        matcher.accept(token)
        done.append(matcher.done)
    assert done == [False, False, False, False, True]


def test_text_holds_no_control_token(words: Vocabulary) -> None:
    free = allowed(words, "start: /(?s:.*)/")
    assert b"<think>" in free
    assert b"<|channel|>" not in free
    assert allowed(words, 'start: <|channel|> "x"') == [b"<|channel|>"]


def test_white_space_in_json_comes_to_an_end(words: Vocabulary) -> None:
    rule = f"start: {json_rule({'type': 'array', 'items': {'type': 'boolean'}})}"
    assert b" " in allowed(words, rule, "[\n" + " " * 31)
    assert b" " not in allowed(words, rule, "[\n" + " " * 32)


def test_a_token_that_was_not_allowed_is_an_error(words: Vocabulary) -> None:
    matcher = words.matcher(YES)
    with pytest.raises(InvalidRequest, match="could not be held"):
        matcher.accept(tokens_of("x")[0])


def test_a_grammar_that_turns_out_too_complex_is_no_fault_of_the_gateways(words: Vocabulary) -> None:
    matcher = words.matcher(f"start: {json_rule({'properties': {f'p{number}': {} for number in range(1500)}})}")
    with pytest.raises(InvalidRequest, match="could not be held"):
        matcher.accept(tokens_of("{")[0])


def test_a_grammar_that_is_none_is_refused(words: Vocabulary) -> None:
    with pytest.raises(InvalidRequest, match="cannot be held"):
        words.matcher('start: <|nowhere|> "x"')


def test_the_vocabulary_of_a_tokenizer_has_the_bytes_of_each_token(qwen: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(qwen)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    words = vocabulary_of(tokenizer, size=280, ends={end})
    assert len(words.tokens) == 280
    assert words.tokens[tokenizer.convert_tokens_to_ids("Ġa")] == b" a"
    assert words.tokens[279] == b""
    free = words.matcher("start: /(?s:.*)/").allowed()
    assert free.shape == (280,)
    assert free[tokenizer.convert_tokens_to_ids("</think>")], "a word is text, though it is a token of its own"
    assert not free[tokenizer.convert_tokens_to_ids("<|im_start|>")]
    assert free[end], "an answer of any text may end"
    assert not free[268:].any()


# Schemas


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "array", "items": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}},
        {"type": "string", "format": "date-time"},
        {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"required": ["a"]}]},
        {"$ref": "#/$defs/N", "$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}}},
        {"type": "object", "x-guidance": {"lenient": True}},
    ],
)
def test_what_can_be_held(schema: dict[str, Any]) -> None:
    check_schema(schema, "schema")


@pytest.mark.parametrize(
    ("schema", "part", "reason"),
    [
        ({"not": {"type": "null"}}, "schema", "not"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "schema.properties.a", "not"),
        (
            {"type": "array", "items": {"anyOf": [{"type": "null"}, {"type": "array", "uniqueItems": True}]}},
            "schema.items.anyOf[1]",
            "uniqueItems",
        ),
        (
            {
                "type": "object",
                "properties": {"n": {"$ref": "#/$defs/N"}},
                "$defs": {"N": {"type": "object", "properties": {"s": {"type": "string", "format": "iri"}}}},
            },
            "schema.$defs.N.properties.s",
            "iri",
        ),
        ({"type": "string", "pattern": "(?=a)b"}, "schema", "look-around"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.org/x"}}}, "schema.properties.a", "example"),
        ({"type": "text"}, "schema", "text"),
        ({"type": "object", "properties": 3}, "schema", "properties"),
        ({"type": "object", "x-guidance": {"lenient": True}, "not": {}}, "schema", "not"),
        (
            {"type": "object", "properties": {key: {} for key in map(str, range(99))} | {"z": {"not": {}}}},
            "schema",
            "not",
        ),
    ],
)
def test_what_cannot_be_held_is_refused_by_its_part(schema: dict[str, Any], part: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_schema(schema, "schema")
    assert str(refused.value).startswith(f"{part} cannot be served: ")
    assert reason in str(refused.value).partition(": ")[2]
    assert refused.value.param == "schema"


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"items": deep}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        check_schema(deep, "schema")


def test_a_schema_is_data(words: Vocabulary) -> None:
    """Nothing in it is read as a grammar."""
    tricky = {"enum": ['"} | "x', "%json {}", "\n start: /.*/", "// \u2028"]}
    matcher = words.matcher(f"start: {json_rule(tricky)}")
    for token in json.dumps("%json {}").encode():
        assert matcher.allowed()[token]
        matcher.accept(token)
    assert matcher.done
