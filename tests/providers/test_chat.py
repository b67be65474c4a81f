"""OpenAI's chat completions over a runtime that says what the test tells it to, through LiteLLM's own router."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, TypeVar

import litellm
import pytest
from litellm.types.utils import ModelResponseStream

from llmux.config import Settings
from llmux.errors import ContextLengthExceeded, InvalidRequest, LlmuxError
from providers.chat import ChatProvider
from providers.runtime import FinishReason, Image, Piece, Sampling
from tests import templates

T = TypeVar("T")

HI = [{"role": "user", "content": "Hi"}]
ENTRY = {"model_info": {"id": "small-1"}}
"""As LiteLLM tells a provider which of its entries is asked."""
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}{{ enable_thinking }}{{ tools }}"
)


class Scripted:
    """A runtime that answers with the given words, each of which is a token."""

    special_tokens: Mapping[str, str] = MappingProxyType({"bos_token": "<s>"})
    control_tokens: Collection[str] = ("<s>",)
    image_token: str | None = None
    context = 100

    def __init__(
        self, *words: str, error: Exception | None = None, template: str = TEMPLATE, reason: FinishReason = "stop"
    ) -> None:
        self.words = words
        self.error = error
        self.chat_template = template
        self.reason: FinishReason = reason
        self.prompt = ""
        self.sampling = Sampling()
        self.images: Sequence[Image] = ()
        self.spoken = 0
        self.closed = False

    async def generate(
        self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()
    ) -> AsyncGenerator[Piece, None]:
        self.prompt, self.sampling, self.images = prompt, sampling, images
        try:
            for word in self.words:
                self.spoken += 1
                yield Piece(word, 1, 7)
            if self.error:
                raise self.error
            yield Piece("", 1, 7, self.reason)
        finally:
            self.closed = True

    async def close(self) -> None:
        pass


MODEL: dict[str, Any] = {"task": "llm", "runtime": "transformers", "weights": "w", "estimate": "1 GB"}
SETTINGS = Settings.model_validate({"models": {"small": MODEL, "seeing": {**MODEL, "capabilities": ["vision"]}}})


class Lending:
    """Lends one runtime and remembers what was asked for."""

    def __init__(self, runtime: Scripted) -> None:
        self.runtime = runtime
        self.asked: list[str] = []

    async def stream(self, physical: str, work: Callable[[Any], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        self.asked.append(physical)
        async with aclosing(work(self.runtime)) as items:
            async for item in items:
                yield item


def provider(runtime: Scripted) -> ChatProvider:
    return ChatProvider(Lending(runtime), SETTINGS)


@pytest.fixture
def router() -> Iterator[Callable[[Scripted], litellm.Router]]:
    before = litellm.custom_provider_map

    def serving(runtime: Scripted) -> litellm.Router:
        litellm.custom_provider_map = [{"provider": "llmux", "custom_handler": provider(runtime)}]
        litellm.utils.custom_llm_setup()
        entry = {"model": "llmux/small", "view": {"enable_thinking": False}}
        return litellm.Router(
            model_list=[{"model_name": "Small", "litellm_params": entry}], num_retries=0, disable_cooldowns=True
        )

    yield serving
    litellm.custom_provider_map = before


async def answer(runtime: Scripted, **optional: Any) -> Any:
    return await provider(runtime).acompletion(model="small", messages=HI, optional_params=optional)


async def chunks(runtime: Scripted, **optional: Any) -> list[ModelResponseStream]:
    stream = provider(runtime).astreaming(model="small", messages=HI, optional_params=optional, litellm_params=ENTRY)
    return [chunk async for chunk in stream]


async def test_an_answer_has_text_usage_and_a_reason() -> None:
    response = await answer(Scripted("Hel", "lo"))
    assert response.choices[0].message.content == "Hello"
    assert response.choices[0].finish_reason == "stop"
    assert (response.usage.prompt_tokens, response.usage.completion_tokens, response.usage.total_tokens) == (7, 3, 10)


async def test_a_stream_is_one_answer_in_pieces() -> None:
    first, second, usage, last = await chunks(Scripted("Hel", "lo"))
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "Hel")
    assert (second.choices[0].delta.role, second.choices[0].delta.content) == (None, "lo")
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens) == (7, 3)
    assert last.choices[0].finish_reason == "stop"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in (first, second, usage, last)}) == 1


async def test_a_stop_string_ends_the_answer_and_the_generation() -> None:
    runtime = Scripted("one", " t", "wo", " three", " four")
    response = await answer(runtime, stop=" two")
    assert response.choices[0].message.content == "one"
    assert response.choices[0].finish_reason == "stop"
    assert response.usage.completion_tokens == 3
    assert (runtime.spoken, runtime.closed) == (3, True)


async def test_what_only_looked_like_a_stop_string_is_shown() -> None:
    response = await answer(Scripted("one", " t"), stop=[" two", "x"])
    assert response.choices[0].message.content == "one t"


async def test_an_empty_answer_still_ends() -> None:
    usage, last = await chunks(Scripted())
    assert usage.usage.completion_tokens == 1
    assert last.choices[0].finish_reason == "stop"


async def test_closing_a_stream_stops_the_generation() -> None:
    runtime = Scripted("a", "b", "c")
    stream = provider(runtime).astreaming(model="small", messages=HI, optional_params={}, litellm_params=ENTRY)
    async with aclosing(stream):
        await anext(stream)
    assert (runtime.spoken, runtime.closed) == (1, True)


async def test_cancelling_an_answer_stops_the_generation() -> None:
    started = asyncio.Event()

    class Endless(Scripted):
        async def generate(
            self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()
        ) -> AsyncGenerator[Piece, None]:
            try:
                started.set()
                await asyncio.Event().wait()
                yield Piece("never", 1, 7)
            finally:
                self.closed = True

    runtime = Endless()
    task = asyncio.create_task(answer(runtime))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runtime.closed


async def test_a_refused_request_never_asks_for_the_model() -> None:
    lending = Lending(Scripted())
    with pytest.raises(InvalidRequest):
        await ChatProvider(lending, SETTINGS).acompletion(model="small", messages=HI, optional_params={"n": 9})
    assert lending.asked == []


async def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        await answer(Scripted(), chat_template_kwargs=deep)


async def test_an_answer_without_an_end_is_an_error() -> None:
    class Broken(Scripted):
        async def generate(
            self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()
        ) -> AsyncGenerator[Piece, None]:
            yield Piece("x", 1, 7)

    with pytest.raises(LlmuxError, match="without a reason"):
        await answer(Broken())


# Reasoning and calls of tools

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def qwen(*words: str, reason: FinishReason = "stop") -> Scripted:
    return Scripted(*words, template=templates.QWEN, reason=reason)


CALL = ("<tool_call>\n<function=", "f>\n", "</function>", "\n</tool_call>")


async def test_reasoning_calls_and_content_have_their_fields() -> None:
    response = await answer(qwen("hm", "</think>", "\n\nSure.", "\n\n", *CALL), tools=TOOLS)
    message = response.choices[0].message
    assert (message.reasoning_content, message.content) == ("hm", "Sure.")
    assert [(call.type, call.function.name, call.function.arguments) for call in message.tool_calls] == [
        ("function", "f", "{}")
    ]
    assert response.choices[0].finish_reason == "tool_calls"


async def test_reasoning_tokens_are_counted_with_the_markup_that_ends_them() -> None:
    response = await answer(qwen("hm", " hm", "</think>", "Sure."))
    assert response.usage.completion_tokens == 5
    assert response.usage.completion_tokens_details.reasoning_tokens == 3


async def test_an_answer_that_only_calls_has_no_content() -> None:
    response = await answer(qwen("</think>", *CALL), tools=TOOLS)
    assert response.choices[0].message.content is None


async def test_an_answer_cut_within_its_reasoning_says_so() -> None:
    response = await answer(qwen("hm", " hm", reason="length"), max_tokens=3)
    assert response.choices[0].message.reasoning_content == "hm hm"
    assert response.choices[0].message.content == ""
    assert response.choices[0].finish_reason == "length"


async def test_an_answer_cut_within_a_call_is_text_and_says_so() -> None:
    response = await answer(qwen("</think>", *CALL[:2], reason="length"), tools=TOOLS)
    assert response.choices[0].message.content == "<tool_call>\n<function=f>\n"
    assert response.choices[0].message.tool_calls is None
    assert response.choices[0].finish_reason == "length"


async def test_a_streamed_call_has_its_index_id_and_name_once() -> None:
    got = await chunks(qwen("hm</think>", *CALL, "\n", *CALL), tools=TOOLS)
    deltas = [call for chunk in got for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.function.name, call.function.arguments) for call in deltas] == [
        (0, "f", "{}"),
        (1, "f", "{}"),
    ]
    assert len({call.id for call in deltas}) == 2
    assert got[-1].choices[0].finish_reason == "tool_calls"


async def test_the_only_call_ends_the_answer_where_calls_may_not_be_parallel() -> None:
    runtime = qwen("</think>", *CALL, "\n", *CALL)
    response = await answer(runtime, tools=TOOLS, parallel_tool_calls=False)
    assert len(response.choices[0].message.tool_calls) == 1
    assert response.choices[0].finish_reason == "tool_calls"
    assert (runtime.spoken, runtime.closed) == (5, True)


async def test_where_no_tools_are_offered_the_markup_of_a_call_is_text() -> None:
    response = await answer(qwen("</think>", *CALL), tools=TOOLS, tool_choice="none")
    assert response.choices[0].message.content == "".join(CALL)
    assert response.choices[0].finish_reason == "stop"


async def test_stop_strings_are_looked_for_in_what_is_said_alone() -> None:
    call = ("<tool_call>\n<function=", "f>\n<parameter=a>\nEND\n</parameter>\n", "</function>\n</tool_call>")
    response = await answer(qwen("END", "</think>", *call, "one E", "ND two"), tools=TOOLS, stop="END")
    message = response.choices[0].message
    assert (message.reasoning_content, message.content) == ("END", "one ")
    assert message.tool_calls[0].function.arguments == '{"a": "END"}'
    assert response.choices[0].finish_reason == "tool_calls"


# Answers that are held to something


async def test_a_form_reaches_the_runtime_as_a_grammar() -> None:
    runtime = Scripted("{}")
    await answer(runtime, response_format={"type": "json_object"})
    assert '%json {"type": "object"' in (runtime.sampling.grammar or "")
    await answer(runtime, response_format={"type": "text"})
    assert runtime.sampling.grammar is None


async def test_a_schema_that_cannot_be_held_is_refused_before_the_model_is_asked_for() -> None:
    lending = Lending(Scripted())
    tool = {"type": "function", "function": {"name": "g", "parameters": {"properties": {"a": {"not": {}}}}}}
    form = {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}
    demands: list[dict[str, Any]] = [{"response_format": form}, {"tools": [*TOOLS, tool], "tool_choice": "required"}]
    for demand, param in zip(
        demands, ("response_format.json_schema.schema", "tools[1].function.parameters"), strict=True
    ):
        with pytest.raises(InvalidRequest, match="cannot be served") as refused:
            await ChatProvider(lending, SETTINGS).acompletion(model="small", messages=HI, optional_params=demand)
        assert refused.value.param == param
    assert lending.asked == []


# Images

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGP8"
    "z8DAwMAAAAYIAQHLR3Z1AAAAAElFTkSuQmCC"
)


def showing(url: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}]}
    ]


async def test_an_image_reaches_the_runtime_with_its_place_in_the_prompt() -> None:
    runtime = qwen("A pixel.")
    runtime.image_token = "<|image_pad|>"
    await provider(runtime).acompletion(model="seeing", messages=showing(PIXEL), optional_params={})
    assert [image.shape for image in runtime.images] == [(1, 2, 3)]
    assert runtime.prompt.count("<|image_pad|>") == 1


async def test_a_model_that_is_not_said_to_see_is_not_loaded_for_an_image() -> None:
    lending = Lending(qwen())
    with pytest.raises(InvalidRequest, match="takes no images"):
        await ChatProvider(lending, SETTINGS).acompletion(model="small", messages=showing(PIXEL), optional_params={})
    assert lending.asked == []


async def test_a_model_that_turns_out_to_be_blind_refuses_an_image() -> None:
    with pytest.raises(InvalidRequest, match="takes no images"):
        await provider(qwen()).acompletion(model="seeing", messages=showing(PIXEL), optional_params={})


# What LiteLLM's router makes of it

Serving = Callable[[Scripted], litellm.Router]


async def test_the_router_passes_parameters_and_the_view_on(router: Serving) -> None:
    runtime = Scripted("Hi")
    response = await router(runtime).acompletion(
        model="Small", messages=HI, max_completion_tokens=9, temperature=0.5, top_p=0.25, seed=4, stop=["x"]
    )
    assert runtime.sampling == Sampling(max_tokens=9, temperature=0.5, top_p=0.25, seed=4)
    assert runtime.prompt == "<s>HiFalseNone"
    assert response.choices[0].message.content == "Hi"
    assert response.usage.total_tokens == 9


async def collected(stream: AsyncIterator[Any]) -> list[dict[str, Any]]:
    return [chunk.model_dump(exclude_none=True) async for chunk in stream]


async def test_a_routed_stream_ends_with_its_reason(router: Serving) -> None:
    stream = await router(Scripted("a", "b")).acompletion(model="Small", messages=HI, stream=True)
    got = await collected(stream)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in got] == ["a", "b", None]
    assert got[-1]["choices"][0]["finish_reason"] == "stop"
    assert len({chunk["id"] for chunk in got}) == 1
    assert not any(chunk.get("usage") for chunk in got)


async def test_a_routed_stream_has_the_runtimes_usage_when_asked(router: Serving) -> None:
    stream = await router(Scripted("a", "b")).acompletion(
        model="Small", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    got = await collected(stream)
    usage = got[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 3, 10)


async def test_an_error_reaches_the_caller_as_a_cause(router: Serving) -> None:
    refusing = router(Scripted(error=ContextLengthExceeded("too long", param="messages")))
    with pytest.raises(litellm.BadRequestError) as refused:
        await refusing.acompletion(model="Small", messages=HI)
    assert any(isinstance(cause, ContextLengthExceeded) for cause in causes(refused.value))


async def test_an_error_reaches_the_reader_of_a_stream_as_a_cause(router: Serving) -> None:
    refusing = router(Scripted("a", error=ContextLengthExceeded("too long", param="messages")))
    stream = await refusing.acompletion(model="Small", messages=HI, stream=True)
    with pytest.raises(litellm.BadRequestError) as refused:
        await collected(stream)
    assert any(isinstance(cause, ContextLengthExceeded) for cause in causes(refused.value))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
