"""The dialect as clients meet it: a real gateway, the openai SDK, and models that say what the test tells them to."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image as Pillow

from tests.gateway import Gateway, eventually
from tests.scripted import shown

CONFIG = """\
model_list:
  - {model_name: Thinking, litellm_params: {model: llmux/qwen, view: {enable_thinking: true}}}
  - {model_name: Instruct, litellm_params: {model: llmux/qwen, view: {enable_thinking: false}}}
  - {model_name: Locked, litellm_params: {model: llmux/qwen, view: {enable_thinking: false, locked: true}}}
  - {model_name: Low, litellm_params: {model: llmux/gpt-oss, view: {reasoning_effort: low}}}
  - {model_name: Hermes, litellm_params: {model: llmux/hermes}}
  - {model_name: Plain, litellm_params: {model: llmux/plain}}
llmux:
  budget: 10 GB
  database: none
  images: {hosts: [pictures.invalid]}
  models:
    qwen: {task: llm, runtime: transformers, weights: QWEN, estimate: 1 GB, capabilities: [vision, tools]}
    gpt-oss: {task: llm, runtime: transformers, weights: GPT_OSS, estimate: 1 GB, capabilities: [tools]}
    hermes: {task: llm, runtime: transformers, weights: HERMES, estimate: 1 GB, capabilities: [tools]}
    plain: {task: llm, runtime: transformers, weights: CHATML, estimate: 1 GB}
"""

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
QWEN_CALLS = "".join(
    f"\n<tool_call>\n<function=weather>\n<parameter=city>\n{city}\n</parameter>\n</function>\n</tool_call>"
    for city in ("Rome", "Bonn")
)
ANSWERS = {
    "Thinking": f"I look.\n</think>\n\nLet me see:\n{QWEN_CALLS}",
    "Hermes": "<think>\nI look.\n</think>\n\nLet me see:"
    + "".join(
        f'\n<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
        for city in ("Rome", "Bonn")
    ),
    "Low": "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>commentary<|message|>Let me see:"
    + "".join(
        "<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
        f'{{"city": "{city}"}}'
        for city in ("Rome", "Bonn")
    ),
}
"""The same answer in the markup of each family."""


def told(answer: str) -> list[Any]:
    return [{"role": "user", "content": f"[[{answer}]]"}]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("dialect")
    for weights in ("QWEN", "GPT_OSS", "HERMES", "CHATML"):
        (folder / "models" / weights).mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            (folder / "models" / weights / name).touch()
    (folder / "config.yaml").write_text(CONFIG)
    gateway = Gateway(folder / "config.yaml", module="tests.scripted")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> openai.OpenAI:
    return gateway.openai()


def prompt_of(client: openai.OpenAI, model: str, messages: Any = None, **how: Any) -> str:
    """The prompt that a model was given: where it is told nothing else, it says that."""
    answer = client.chat.completions.create(
        model=model, messages=messages or [{"role": "user", "content": "Hi"}], **how
    )
    message = answer.choices[0].message
    return getattr(message, "reasoning_content", None) or message.content or ""


# Chat completions


@pytest.mark.parametrize("model", ANSWERS)
def test_an_answer_has_its_reasoning_its_text_and_its_calls(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=told(ANSWERS[model]), tools=TOOLS)
    message = answer.choices[0].message
    assert message.content == "Let me see:"
    assert message.model_extra is not None
    assert message.model_extra["reasoning_content"] == "I look."
    calls = [call for call in message.tool_calls or [] if call.type == "function"]
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("weather", {"city": "Rome"}),
        ("weather", {"city": "Bonn"}),
    ]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert 0 < (answer.usage.completion_tokens_details.reasoning_tokens or 0) < answer.usage.completion_tokens


@pytest.mark.parametrize("model", ANSWERS)
def test_a_stream_says_the_same_in_the_sdks_shapes(gateway: Gateway, model: str) -> None:
    request = {"model": model, "messages": told(ANSWERS[model]), "tools": TOOLS, "stream": True}
    with gateway.http() as http:
        answer = http.post("/v1/chat/completions", json={**request, "stream_options": {"include_usage": True}})
    frames = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert frames.pop() == "[DONE]"
    *chunks, last = map(json.loads, frames)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "I look."
    assert "".join(delta.get("content") or "" for delta in deltas) == "Let me see:"
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [(call["index"], call["type"], call["function"]) for call in calls] == [
        (0, "function", {"name": "weather", "arguments": '{"city": "Rome"}'}),
        (1, "function", {"name": "weather", "arguments": '{"city": "Bonn"}'}),
    ]
    assert len({call["id"] for call in calls}) == 2
    assert [delta["role"] for delta in deltas if "role" in delta] == ["assistant"]
    reasons = [chunk["choices"][0].get("finish_reason") for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["tool_calls"]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]
    assert not any("usage" in chunk for chunk in chunks)
    assert len({(chunk["id"], chunk["model"]) for chunk in [*chunks, last]}) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_length_within_reasoning_is_length(client: openai.OpenAI, stream: bool) -> None:
    how: Any = {"model": "Thinking", "messages": told("I look at the map."), "max_tokens": 2}
    if stream:
        choices = [chunk.choices[0] for chunk in client.chat.completions.create(stream=True, **how)]
        assert "".join((choice.delta.model_extra or {}).get("reasoning_content", "") for choice in choices) == "I look"
        assert [choice.finish_reason for choice in choices][-1] == "length"
    else:
        choice = client.chat.completions.create(**how).choices[0]
        assert (choice.finish_reason, choice.message.content) == ("length", "")
        assert choice.message.model_extra is not None
        assert choice.message.model_extra["reasoning_content"] == "I look"


def test_every_parameter_reaches_the_model(client: openai.OpenAI) -> None:
    more = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2}
    prompt = prompt_of(
        client,
        "Plain",
        temperature=0.5,
        top_p=0.9,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        seed=3,
        logit_bias={"7": -1},
        max_completion_tokens=1000,
        extra_body=more,
    )
    for said in (
        "max_tokens=1000, temperature=0.5, top_p=0.9, top_k=5, min_p=0.1",
        "frequency_penalty=0.1, presence_penalty=0.2, repetition_penalty=1.2, logit_bias={7: -1.0}, seed=3",
    ):
        assert said in prompt


def test_names_are_views_and_a_request_may_override_them(client: openai.OpenAI) -> None:
    silent = shown("<think>\n\n</think>")
    assert silent not in prompt_of(client, "Thinking")
    assert silent in prompt_of(client, "Instruct")
    task = {"chat_template_kwargs": {"enable_thinking": False}}  # as Open WebUI asks for titles
    assert silent in prompt_of(client, "Thinking", extra_body=task)
    assert silent not in prompt_of(client, "Instruct", extra_body={"enable_thinking": True})
    assert "Reasoning: low" in prompt_of(client, "Low")
    assert "Reasoning: high" in prompt_of(client, "Low", reasoning_effort="high")


def test_a_locked_view_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="enable_thinking is fixed"):
        prompt_of(client, "Locked", extra_body={"enable_thinking": True})


def test_a_conversation_with_tools_goes_on_as_clients_send_it(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="Thinking", messages=told(ANSWERS["Thinking"]), tools=TOOLS)
    message = first.choices[0].message
    calls = message.tool_calls or []
    results = [{"role": "tool", "tool_call_id": call.id, "content": "warm"} for call in calls]
    messages = [{"role": "user", "content": "Rome, Bonn?"}, message.model_dump(exclude_none=True), *results]
    prompt = prompt_of(client, "Thinking", messages, tools=TOOLS)
    assert shown("<think>\nI look.\n</think>") in prompt
    assert shown("<function=weather>\n<parameter=city>\nBonn\n</parameter>") in prompt
    assert prompt.count(shown("<tool_response>\nwarm\n</tool_response>")) == 2


# What LiteLLM translates

RESPONSES_TOOLS: list[Any] = [{"type": "function", "name": "weather", "parameters": PARAMETERS}]
MESSAGES_TOOLS = [{"name": "weather", "input_schema": PARAMETERS}]


@pytest.mark.parametrize("stream", [False, True])
def test_completions(client: openai.OpenAI, stream: bool) -> None:
    how: Any = {"model": "Thinking", "prompt": "[[I look.</think>It is warm.]]"}
    if not stream:
        answer = client.completions.create(**how)
        assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("It is warm.", "stop")
        return
    chunks = list(client.completions.create(stream=True, stream_options={"include_usage": True}, **how))
    assert "".join(getattr(chunk.choices[0], "text", None) or "" for chunk in chunks if chunk.choices) == "It is warm."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ANSWERS)
def test_responses(client: openai.OpenAI, model: str, stream: bool) -> None:
    how: Any = {"model": model, "input": f"[[{ANSWERS[model]}]]", "tools": RESPONSES_TOOLS}
    if stream:
        events = list(client.responses.create(stream=True, **how))
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        reasoning = "".join(event.delta for event in events if event.type == "response.reasoning_summary_text.delta")
        assert (reasoning, text) == ("I look.", "Let me see:")
        arguments = [event.arguments for event in events if event.type == "response.function_call_arguments.done"]
        assert arguments == ['{"city": "Rome"}', '{"city": "Bonn"}']
        assert events[-1].type == "response.completed"
        response = events[-1].response
    else:
        response = client.responses.create(**how)
    assert response.output_text == "Let me see:"
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"]
    assert [item.arguments for item in response.output if item.type == "function_call"] == [
        '{"city": "Rome"}',
        '{"city": "Bonn"}',
    ]
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens > 0


def test_responses_go_on_after_a_call(client: openai.OpenAI) -> None:
    items: Any = [
        {"role": "user", "content": "Rome?"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "warm"},
    ]
    response = client.responses.create(model="Instruct", input=items, tools=RESPONSES_TOOLS)
    prompt = str(response.model_dump())
    assert shown("<parameter=city>") in prompt
    assert shown("<tool_response>") in prompt


def messages(gateway: Gateway, stream: bool, **request: Any) -> str:
    with gateway.http() as http:
        answer = http.post("/v1/messages", json={"max_tokens": 900, "stream": stream, **request})
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize("model", ANSWERS)
def test_messages(gateway: Gateway, model: str) -> None:
    answer = json.loads(messages(gateway, False, model=model, messages=told(ANSWERS[model]), tools=MESSAGES_TOOLS))
    thinking, text, *calls = answer["content"]
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "I look.")
    assert (text["type"], text["text"]) == ("text", "Let me see:")
    assert [(call["type"], call["name"], call["input"]) for call in calls] == [
        ("tool_use", "weather", {"city": "Rome"}),
        ("tool_use", "weather", {"city": "Bonn"}),
    ]
    assert answer["stop_reason"] == "tool_use"
    assert answer["usage"]["output_tokens"] > 0


@pytest.mark.parametrize("model", ANSWERS)
def test_streamed_messages(gateway: Gateway, model: str) -> None:
    stream = messages(gateway, True, model=model, messages=told(ANSWERS[model]), tools=MESSAGES_TOOLS)
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == "I look."
    assert "".join(delta.get("text", "") for delta in deltas) == "Let me see:"
    inputs = [delta["partial_json"] for delta in deltas if delta["type"] == "input_json_delta"]
    assert [json.loads(arguments) for arguments in inputs if arguments] == [{"city": "Rome"}, {"city": "Bonn"}]
    (end,) = (event for event in events if event["type"] == "message_delta")
    assert end["delta"]["stop_reason"] == "tool_use"
    assert end["usage"]["output_tokens"] > 0
    assert events[-1]["type"] == "message_stop"


def test_messages_go_on_after_a_call(gateway: Gateway) -> None:
    conversation = [
        {"role": "user", "content": "Rome?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I look.", "signature": ""},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "warm"}]},
    ]
    prompt = messages(gateway, False, model="Instruct", messages=conversation, tools=MESSAGES_TOOLS)
    assert shown("<parameter=city>") in prompt
    assert shown("<tool_response>") in prompt


# Images


def picture() -> str:
    written = io.BytesIO()
    Pillow.new("RGB", (7, 5), "red").save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def test_an_image_reaches_the_model_by_every_route(client: openai.OpenAI, gateway: Gateway) -> None:
    url = f"data:image/png;base64,{picture()}"
    seen = "[(5, 7, 3)]"
    assert seen in prompt_of(
        client, "Instruct", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    )
    item: Any = {"role": "user", "content": [{"type": "input_image", "image_url": url, "detail": "auto"}]}
    assert seen in client.responses.create(model="Instruct", input=[item]).output_text
    source = {"type": "base64", "media_type": "image/png", "data": picture()}
    content = [{"type": "image", "source": source}]
    assert seen in messages(gateway, False, model="Instruct", messages=[{"role": "user", "content": content}])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "field", "part"),
    [
        ("/v1/chat/completions", "messages", {"type": "image_url", "image_url": {"url": "http://%s/a.png"}}),
        ("/v1/responses", "input", {"type": "input_image", "image_url": "http://%s/a.png"}),
        ("/v1/messages", "messages", {"type": "image", "source": {"type": "url", "url": "http://%s/a.png"}}),
    ],
)
def test_an_image_elsewhere_is_fetched_by_nobody_but_llmux(
    gateway: Gateway, path: str, field: str, part: dict[str, Any], stream: bool
) -> None:
    def ask(model: str, host: str) -> httpx.Response:
        pointing = json.loads(json.dumps(part).replace("%s", host))
        body = {"model": model, field: [{"role": "user", "content": [pointing]}], "stream": stream, "max_tokens": 9}
        with gateway.http() as http:
            return http.post(path, json=body)

    def talked_about(host: str) -> list[str]:
        return [line for line in gateway.log if line.startswith("talks to") and host in line]

    before = len(talked_about("pictures.invalid"))
    for model, host in (("Instruct", "elsewhere.invalid"), ("Plain", "pictures.invalid"), ("Instruct", "127.0.0.1:9")):
        answer = ask(model, host)
        assert answer.status_code == 400 or "error" in answer.text
    assert talked_about("elsewhere.invalid") == talked_about(":9") == talked_about(", 9)") == []
    assert len(talked_about("pictures.invalid")) == before  # that model sees nothing, so nothing is fetched for it
    assert "could not be fetched" in ask("Instruct", "pictures.invalid").text
    eventually(lambda: len(talked_about("pictures.invalid")) > before)
    assert len(talked_about("pictures.invalid")) == before + 1  # this once, by llmux


def test_litellm_counts_no_tokens_of_an_image_that_was_answered(gateway: Gateway) -> None:
    content = [{"type": "image_url", "image_url": {"url": "http://answered.invalid/a.png"}}]
    with gateway.http() as http:
        answer = http.post(
            "/v1/chat/completions", json={"model": "Instruct", "messages": [{"role": "user", "content": content}]}
        )
    assert "(1, 1, 3)" in answer.text
    assert not any("answered.invalid" in line for line in gateway.log if line.startswith("talks to"))


# Bodies

NO_OBJECTS: list[Any] = [[], "x", 5]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *((f"/v1/{route}", body) for route in ("chat/completions", "responses", "messages") for body in NO_OBJECTS),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "response_format": 5}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "video"}]}]}),
        ("/v1/completions", {"prompt": [1, 2, 3]}),
        ("/v1/completions", {"prompt": 5}),
        ("/v1/responses", {"input": 5}),
        ("/v1/responses", {"input": [5]}),
        ("/v1/responses", {"input": "x", "previous_response_id": "resp_1"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [5]}], "max_tokens": 5}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "tool_choice": 5}),
    ],
)
def test_a_body_that_makes_no_sense_is_a_400(gateway: Gateway, path: str, body: Any) -> None:
    with gateway.http() as http:
        answer = http.post(path, json={"model": "Plain", **body} if isinstance(body, dict) else body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/chat/completions", "messages"), ("/v1/responses", "input"), ("/v1/messages", "messages")],
)
@pytest.mark.parametrize(
    ("said", "more", "code"),
    [("Hi", {"temperature": 9}, None), ("word " * 30_000, {}, "context_length_exceeded")],
    ids=["a parameter", "the context"],
)
def test_an_error_before_the_first_token_keeps_its_status_in_every_api(
    gateway: Gateway, path: str, field: str, stream: bool, said: str, more: dict[str, Any], code: str | None
) -> None:
    body = {"model": "Plain", field: [{"role": "user", "content": said}], "max_tokens": 9, "stream": stream, **more}
    with gateway.http() as http:
        answer = http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    if code:
        assert "37" in error["message"]
        assert "32768" in error["message"]


def test_three_dozen_tools_reach_the_model(client: openai.OpenAI) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": f"tool_{number}"}} for number in range(36)]
    prompt = prompt_of(client, "Instruct", tools=tools)
    assert all(f"tool_{number}" in prompt for number in range(36))
