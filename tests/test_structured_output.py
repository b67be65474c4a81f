"""Answers held to a form, logprobs and several answers, as clients meet them: a real gateway, both runtimes, the SDK.

Speaker is SmolLM2. Caller has random weights and the template of Hermes: it would say anything, and call nothing.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from tests import checkpoints, constrained, templates
from tests.constrained import NOTHING, PARAMETERS
from tests.gateway import Gateway

CONFIG = """\
model_list:
  - {{model_name: Speaker, litellm_params: {{model: llmux/smollm2}}}}
  - {{model_name: Caller, litellm_params: {{model: llmux/caller, view: {{enable_thinking: false}}}}}}
llmux:
  budget: 2 GB
  database: none
  models_dir: {models}
  models:
    smollm2:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 2048,
        estimate: 300 MB}}
    caller:
      {{task: llm, runtime: transformers, weights: caller, context: 2048, estimate: 100 MB, capabilities: [tools]}}
"""

ASKED: list[Any] = [{"role": "user", "content": "Tell me of a person, as JSON."}]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOLS: Any = constrained.TOOLS
CALLING: dict[str, Any] = {"model": "Caller", "messages": ASKED, "max_tokens": 1500, "seed": 3}


class Person(BaseModel):
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=99)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("structured")
    models = folder / "models"
    (models / "caller").mkdir(parents=True)
    checkpoints.write_plain(models / "caller", template=templates.HERMES, context=4096)
    (models / "smollm2-135m").symlink_to(demo_models / "smollm2-135m")
    (folder / "config.yaml").write_text(CONFIG.format(models=models))
    gateway = Gateway(folder / "config.yaml")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> openai.OpenAI:
    return gateway.openai()


def held_to(schema: dict[str, Any]) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}


# response_format


@pytest.mark.parametrize("model", ["Speaker", "Caller"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_json_of_its_schema(client: openai.OpenAI, model: str, stream: bool) -> None:
    how: Any = {"model": model, "messages": ASKED, "response_format": held_to(SCHEMA), "max_tokens": 300, "seed": 3}
    if stream:
        chunks = client.chat.completions.create(stream=True, **how)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        text = client.chat.completions.create(**how).choices[0].message.content or ""
    jsonschema.validate(json.loads(text), SCHEMA)


def test_the_sdk_parses_an_answer_into_its_class(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="Speaker", messages=ASKED, response_format=Person, max_tokens=300)
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_an_object_is_an_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="Speaker", messages=ASKED, response_format={"type": "json_object"}, max_tokens=400, temperature=0
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content or ""), dict)
    assert (choice.message.content or "").startswith("{")


def test_json_that_is_cut_says_so(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="Speaker", messages=ASKED, response_format=held_to(SCHEMA), max_tokens=2
    )
    assert answer.choices[0].finish_reason == "length"


def test_what_cannot_be_held_is_refused_by_its_part(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"not": {"type": "null"}}}}}
    with pytest.raises(openai.BadRequestError, match=r"properties\.a\.items cannot be served.*not") as refused:
        client.chat.completions.create(model="Speaker", messages=ASKED, response_format=held_to(schema))
    assert refused.value.param == "response_format.json_schema.schema"


def test_responses_hold_their_text_to_a_schema(client: openai.OpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "person", "schema": SCHEMA, "strict": True}}
    response = client.responses.create(model="Speaker", input="Tell me of a person.", text=form, max_output_tokens=300)
    jsonschema.validate(json.loads(response.output_text), SCHEMA)


# tool_choice


def check_calls(calls: list[tuple[str, str]], least: int = 1) -> None:
    assert len(calls) >= least
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), {"weather": PARAMETERS, "ping": NOTHING}[name])


def called(answer: Any) -> list[tuple[str, str]]:
    return [(call.function.name, call.function.arguments) for call in answer.choices[0].message.tool_calls or []]


def test_a_call_that_is_required_is_made(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(tools=TOOLS, tool_choice="required", **CALLING)
    check_calls(called(answer))
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("name", ["weather", "ping"])
def test_the_function_that_is_named_is_called_once(client: openai.OpenAI, name: str) -> None:
    choice: Any = {"type": "function", "function": {"name": name}}
    chunks: Any = client.chat.completions.create(tools=TOOLS, tool_choice=choice, stream=True, **CALLING)
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    check_calls([(delta.function.name, delta.function.arguments) for delta in deltas])
    assert [delta.function.name for delta in deltas] == [name]


def test_only_what_is_allowed_is_called(client: openai.OpenAI) -> None:
    tools = [{"type": "function", "function": {"name": "ping"}}]
    choice: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools}}
    answer = client.chat.completions.create(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, **CALLING)
    assert [name for name, _ in called(answer)] == ["ping"]


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "weather"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
    ],
    ids=["required", "named", "allowed"],
)
def test_responses_demand_calls_too(client: openai.OpenAI, choice: Any) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS}]
    response = client.responses.create(
        model="Caller", input="Hi", tools=tools, tool_choice=choice, max_output_tokens=1500
    )
    check_calls([(item.name, item.arguments) for item in response.output if item.type == "function_call"])


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}], ids=["any", "named"])
def test_messages_demand_calls_too(gateway: Gateway, choice: Any) -> None:
    tools = [{"name": "weather", "input_schema": PARAMETERS}]
    body = {"model": "Caller", "max_tokens": 1500, "messages": ASKED, "tools": tools, "tool_choice": choice}
    with gateway.http() as http:
        answer = http.post("/v1/messages", json=body).json()
    uses = [part for part in answer["content"] if part["type"] == "tool_use"]
    check_calls([(use["name"], json.dumps(use["input"])) for use in uses])


# logprobs and several answers


@pytest.mark.parametrize("model", ["Speaker", "Caller"])
@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_have_the_sdks_shape(client: openai.OpenAI, model: str, stream: bool) -> None:
    how: Any = {"model": model, "messages": ASKED, "max_tokens": 12, "logprobs": True, "top_logprobs": 3, "seed": 1}
    if stream:
        choices = [chunk.choices[0] for chunk in client.chat.completions.create(stream=True, **how) if chunk.choices]
        text = "".join(choice.delta.content or "" for choice in choices)
        tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content or []]
    else:
        choice = client.chat.completions.create(**how).choices[0]
        assert choice.logprobs is not None
        text, tokens = choice.message.content or "", choice.logprobs.content or []
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode(errors="replace") == text
    for token in tokens:
        assert token.logprob <= 0
        assert [other.logprob for other in token.top_logprobs] == sorted(
            (other.logprob for other in token.top_logprobs), reverse=True
        )
        assert len(token.top_logprobs) == 3
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1.0001


def test_without_logprobs_there_are_none(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="Speaker", messages=ASKED, max_tokens=2)
    assert answer.choices[0].logprobs is None


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers_differ_and_each_has_its_index(client: openai.OpenAI, stream: bool) -> None:
    how: Any = {"model": "Speaker", "messages": ASKED, "max_tokens": 8, "n": 3, "seed": 5, "temperature": 1.5}
    if not stream:
        answer = client.chat.completions.create(**how)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert len({choice.message.content for choice in answer.choices}) == 3
        assert answer.usage is not None
        assert 3 <= answer.usage.completion_tokens <= 24
        assert answer.usage.prompt_tokens < 60
        return
    texts: dict[int, str] = defaultdict(str)
    reasons: dict[int, list[str]] = defaultdict(list)
    roles: dict[int, list[str]] = defaultdict(list)
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **how))
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] += [choice.finish_reason] if choice.finish_reason else []
            roles[choice.index] += [choice.delta.role] if choice.delta.role else []
    assert sorted(texts) == [0, 1, 2]
    assert len(set(texts.values())) == 3
    assert {index: len(ends) for index, ends in reasons.items()} == {0: 1, 1: 1, 2: 1}
    assert dict(roles) == {0: ["assistant"], 1: ["assistant"], 2: ["assistant"]}
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert all(len(chunk.choices) == 1 for chunk in chunks[:-1])


def test_usage_tells_what_was_cached(client: openai.OpenAI) -> None:
    once: list[Any] = [{"role": "user", "content": "Of all the lighthouses of the north, which is the oldest? " * 9}]
    first, again = (
        client.chat.completions.create(model="Speaker", messages=once, max_tokens=2).usage for _ in range(2)
    )
    assert first is not None
    assert again is not None
    assert first.prompt_tokens_details is not None
    assert again.prompt_tokens_details is not None
    assert (first.prompt_tokens_details.cached_tokens or 0) < first.prompt_tokens - 64
    assert again.prompt_tokens_details.cached_tokens == again.prompt_tokens - 1
