"""What an answer must be, as a grammar: JSON of a schema, or calls of tools, in the markup of the model's family.

The grammar holds the whole answer, with the reasoning before it, which is free. Its syntax is llguidance's
(providers/constraint.py). Where calls are JSON, their arguments are held to the tool's schema as it is. In Qwen 3.5's
markup arguments are bare text, so that a schema is taken apart here: what it says of each property is held, and of a
text its length, pattern and values. What it says of the object beyond that cannot be, and is refused.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import llguidance

from llmux.errors import InvalidRequest
from providers.constraint import json_rule
from providers.markup import Markup, json_types, resolved

Schema = Mapping[str, Any]
Tools = Sequence[Mapping[str, Any]]

_ANNOTATIONS = frozenset(
    {"$comment", "$id", "$schema", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"}
)
_OF_OBJECTS = _ANNOTATIONS | {"$defs", "additionalProperties", "definitions", "properties", "required", "type"}
_OF_TEXTS = _ANNOTATIONS | {"const", "enum", "format", "maxLength", "minLength", "pattern", "type"}

_NO_ARGUMENTS: Schema = {"type": "object", "properties": {}, "additionalProperties": False}

_VALUE_CLOSE = "\n</parameter>\n"


def arguments_schema(tool: Mapping[str, Any]) -> Schema:
    """What the arguments of a tool must be: always an object, and an empty one where the tool says nothing."""
    parameters = tool["function"].get("parameters")
    return {"type": "object", **parameters} if parameters else _NO_ARGUMENTS


def grammar_of(
    markup: Markup,
    prompt: str,
    *,
    control_tokens: Collection[str],
    schema: Schema | None = None,
    calls: Tools = (),
    several: bool = True,
) -> str:
    """What the answer to this prompt must match.

    schema: of the text that is said; None: nothing may be said
    calls: the tools that may be called instead
    several: whether the answer may hold more than one call

    Raises InvalidRequest for calls that the model's markup has no way to write.
    """
    if calls and markup.calls is None:
        raise InvalidRequest("this model knows no tools; ask one that does", param="tool_choice")
    signs = _Signs(control_tokens)
    wanted = [name for name, there in (("said", schema is not None), ("calls", bool(calls))) if there]
    rules = [
        "%llguidance {}",
        *(_harmony(signs) if markup.calls == "harmony" else _tagged(signs, markup, prompt)),
        f"wanted: {' | '.join(wanted)}",
    ]
    if schema is not None:
        begin = f'{signs("<|channel|>")} "final" {_kind(signs)} {signs("<|message|>")} ' if _is_harmony(markup) else ""
        rules.append(f"said: {begin}{json_rule(schema)}")
    if calls:
        more = ' ("\\n" call)*' if several and not _is_harmony(markup) else ""
        rules.append(f"calls: call{more}")
        rules.append(f"call: {' | '.join(f'call_{number}' for number in range(len(calls)))}")
        for number, tool in enumerate(calls):
            rules += _call(signs, markup, f"call_{number}", tool)
    return "\n".join(rules)


class _Signs:
    """Pieces of markup: a control token where the model has one of that name, else text."""

    def __init__(self, control_tokens: Collection[str]) -> None:
        self._control_tokens = frozenset(control_tokens)

    def __call__(self, text: str) -> str:
        return text if text in self._control_tokens else json.dumps(text)

    def __contains__(self, text: str) -> bool:
        return text in self._control_tokens

    def until(self, name: str, close: str, text: str = "(?s:.*)") -> str:
        """The rule `name`: any text, up to and with the first `close`."""
        if close in self:
            return f"{name}: /{text}/ {close}"
        return f"{name}[lazy]: /{text}{_in_regex(close)}/"


def _is_harmony(markup: Markup) -> bool:
    return markup.calls == "harmony"


def _harmony(signs: _Signs) -> Iterator[str]:
    """Reasoning is messages of its own, before the last one. A call ends the answer, so that there is but one."""
    yield "start: analysis* wanted"
    yield f'analysis: {signs("<|channel|>")} "analysis" {signs("<|message|>")} thought {signs("<|start|>")} "assistant"'
    yield signs.until("thought", "<|end|>")


def _kind(signs: _Signs) -> str:
    return '(" "? <|constrain|> "json")?' if "<|constrain|>" in signs else '" json"?'


def _tagged(signs: _Signs, markup: Markup, prompt: str) -> Iterator[str]:
    """Reasoning in <think>, which the prompt may have opened, or closed already."""
    before = prompt.rstrip()
    if not markup.thinks or before.endswith("</think>"):
        yield "start: SPACE wanted"
    else:
        thought = "thought" if before.endswith("<think>") else f"({signs('<think>')} thought)?"
        yield f"start: {thought} SPACE wanted"
        yield signs.until("thought", "</think>")
    yield "SPACE: /\\n{0,2}/"


def _call(signs: _Signs, markup: Markup, rule: str, tool: Mapping[str, Any]) -> list[str]:
    name, arguments = tool["function"]["name"], arguments_schema(tool)
    if _is_harmony(markup):
        begin = f"{signs('<|channel|>')} {json.dumps(f'commentary to=functions.{name}')} {_kind(signs)}"
        return [f"{rule}: {begin} {signs('<|message|>')} {json_rule(arguments)}"]
    opened, closed = signs("<tool_call>"), signs("</tool_call>")
    if markup.calls == "json":
        begin = json.dumps(f'\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": ')
        return [f'{rule}: {opened} {begin} {json_rule(arguments)} "}}\\n" {closed}']
    begin, end = json.dumps(f"\n<function={_nameable(name)}>\n"), json.dumps("</function>\n")
    parameters = dict(_parameters(rule, name, arguments))
    uses = " ".join(parameter + ("" if needed else "?") for parameter, (needed, _) in parameters.items())
    return [
        f"{rule}: {opened} {begin} {uses} {end} {closed}",
        *(text for _, texts in parameters.values() for text in texts),
    ]


def _parameters(rule: str, function: str, schema: Schema) -> Iterator[tuple[str, tuple[bool, list[str]]]]:
    """The arguments as Qwen 3.5 writes them: the name of the rule of each, whether it must be there, its rules."""
    where = f"tools: the parameters of {function}"
    schema = {**resolved(schema, schema), **{key: schema[key] for key in ("$defs", "definitions") if key in schema}}
    _refuse_beyond(_OF_OBJECTS, schema, where)
    properties = dict(schema.get("properties") or {})
    required = schema.get("required") or []
    for name in required:
        properties.setdefault(name, schema.get("additionalProperties", {}))
    for number, (name, wanted) in enumerate(properties.items()):
        parameter = f"{rule}_{number}"
        begin = json.dumps(f"<parameter={_nameable(name)}>\n")
        yield (
            parameter,
            (
                name in required,
                [f"{parameter}: {begin} {parameter}v", *_value(f"{parameter}v", wanted, schema, f"{where}.{name}")],
            ),
        )


def _value(rule: str, wanted: Any, root: Schema, where: str) -> list[str]:
    types = json_types(wanted, root)
    if types and "string" not in types:
        shared = {name: root[name] for name in ("$defs", "definitions") if name in root}
        return [f"{rule}: {json_rule({**shared, **wanted})} {json.dumps(_VALUE_CLOSE)}"]
    texts = [text for schema in _text_schemas(wanted, root, where, set()) if (text := _text(schema, where))]
    if "null" in types:
        texts.append('"null"')  # as it is read back; other JSON in the place of a text would be read as a text
    terminal = rule.upper()
    return [f"{terminal}: ({' | '.join(texts)}) {json.dumps(_VALUE_CLOSE)}", f"{rule}[lazy]: {terminal}"]


def _text_schemas(wanted: Any, root: Schema, where: str, met: set[str]) -> Iterator[Schema]:
    """What is asked of an argument that is written as bare text: any one of these.

    met: references that were followed; a second time one adds nothing
    """
    schema: Schema = wanted if isinstance(wanted, Mapping) else {}
    if (reference := schema.get("$ref")) is not None:
        if reference in met:
            return
        met.add(reference)
        schema = resolved(schema, root)
    for union in ("anyOf", "oneOf"):
        choices = [choice for choice in schema.get(union) or () if "string" in json_types(choice, root)]
        if choices:
            _refuse_beyond(_ANNOTATIONS | {union, "type"}, schema, where)
            if union == "oneOf" and len(choices) > 1 and any(_values(choice) is None for choice in choices):
                raise InvalidRequest(f"{where}: oneOf several texts cannot be served; anyOf can", param="tools")
            for choice in choices:
                yield from _text_schemas(choice, root, where, met)
            return
    _refuse_beyond(_OF_TEXTS, schema, where)
    yield schema


def _text(schema: Schema, where: str) -> str:
    if (values := _values(schema)) is not None:
        return " | ".join(json.dumps(value) for value in values if isinstance(value, str))
    length = f"{{{schema.get('minLength', 0)},{schema.get('maxLength', '')}}}"
    said = f"/(?s:.{length})/"
    if "pattern" in schema:
        said += f" & /{llguidance.regex_to_lark(_whole(schema['pattern'], where), 'dw')}/"
    return f"({said})"


def _values(schema: Schema) -> Sequence[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _refuse_beyond(known: Collection[str], schema: Schema, where: str) -> None:
    beyond = [keyword for keyword in schema if keyword not in known]
    if beyond:
        raise InvalidRequest(f"{where} ask for {beyond[0]}, which this model's calls cannot be held to", param="tools")


def _whole(pattern: str, where: str) -> str:
    """A pattern that must match somewhere, as one that must match the whole text."""
    begins, ends = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith("\\$")
    if (begins or ends) and "|" in pattern:
        raise InvalidRequest(f"{where}: a pattern with ^ or $ and | cannot be served", param="tools")
    inner = pattern[begins : len(pattern) - ends]
    return f"{'' if begins else '(?s:.*)'}(?:{inner}){'' if ends else '(?s:.*)'}"


def _nameable(name: str) -> str:
    if ">" in name or "\n" in name:
        raise InvalidRequest(f"{name!r} is no name that this model's markup can write", param="tools")
    return name


def _in_regex(text: str) -> str:
    return text.replace("/", "\\/").replace("\n", "\\n")
