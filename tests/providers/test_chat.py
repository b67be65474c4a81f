"""OpenAI's chat completions over a runtime that says what the test tells it to, through LiteLLM's own router."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, TypeVar

import litellm
import pytest
from litellm.types.utils import ModelResponseStream

from llmux.errors import ContextLengthExceeded, InvalidRequest, LlmuxError
from providers.chat import ChatProvider, Parameters
from providers.runtime import Piece, Sampling

T = TypeVar("T")

HI = [{"role": "user", "content": "Hi"}]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}{{ enable_thinking }}{{ tools }}"
)


class Scripted:
    """A runtime that answers with the given words, each of which is a token."""

    chat_template = TEMPLATE
    special_tokens: Mapping[str, str] = MappingProxyType({"bos_token": "<s>"})
    control_tokens: Collection[str] = ("<s>",)
    context = 100

    def __init__(self, *words: str, error: Exception | None = None) -> None:
        self.words = words
        self.error = error
        self.prompt = ""
        self.sampling = Sampling()
        self.spoken = 0
        self.closed = False

    async def generate(self, prompt: str, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        self.prompt, self.sampling = prompt, sampling
        try:
            for word in self.words:
                self.spoken += 1
                yield Piece(word, 1, 7)
            if self.error:
                raise self.error
            yield Piece("", 1, 7, "stop")
        finally:
            self.closed = True

    async def close(self) -> None:
        pass


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


@pytest.fixture
def router() -> Iterator[Callable[[Scripted], litellm.Router]]:
    before = litellm.custom_provider_map

    def serving(runtime: Scripted) -> litellm.Router:
        litellm.custom_provider_map = [{"provider": "llmux", "custom_handler": ChatProvider(Lending(runtime))}]
        litellm.utils.custom_llm_setup()
        entry = {"model": "llmux/small", "view": {"enable_thinking": False}}
        return litellm.Router(
            model_list=[{"model_name": "Small", "litellm_params": entry}], num_retries=0, disable_cooldowns=True
        )

    yield serving
    litellm.custom_provider_map = before


async def answer(runtime: Scripted, **optional: Any) -> Any:
    return await ChatProvider(Lending(runtime)).acompletion(model="small", messages=HI, optional_params=optional)


async def chunks(runtime: Scripted, **optional: Any) -> list[ModelResponseStream]:
    stream = ChatProvider(Lending(runtime)).astreaming(model="small", messages=HI, optional_params=optional)
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
    async with aclosing(
        ChatProvider(Lending(runtime)).astreaming(model="small", messages=HI, optional_params={})
    ) as stream:
        await anext(stream)
    assert (runtime.spoken, runtime.closed) == (1, True)


async def test_cancelling_an_answer_stops_the_generation() -> None:
    started = asyncio.Event()

    class Endless(Scripted):
        async def generate(self, prompt: str, sampling: Sampling) -> AsyncGenerator[Piece, None]:
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
        await ChatProvider(lending).acompletion(model="small", messages=HI, optional_params={"n": 2})
    assert lending.asked == []


async def test_an_answer_without_an_end_is_an_error() -> None:
    class Broken(Scripted):
        async def generate(self, prompt: str, sampling: Sampling) -> AsyncGenerator[Piece, None]:
            yield Piece("x", 1, 7)

    with pytest.raises(LlmuxError, match="without a reason"):
        await answer(Broken())


# Parameters


def test_parameters_become_sampling() -> None:
    given = {"max_tokens": 5, "temperature": 0, "top_p": 0.5, "seed": -3, "stop": ["a", "b"]}
    parameters = Parameters.parse(given)
    assert parameters.sampling == Sampling(max_tokens=5, temperature=0, top_p=0.5, seed=-3)
    assert parameters.stop == ("a", "b")


def test_what_is_not_given_is_left_to_the_model() -> None:
    nothing = {"max_tokens": None, "stop": "", "tools": None, "n": 1, "logprobs": False, "presence_penalty": 0.0}
    assert Parameters.parse(nothing) == Parameters.parse({}) == Parameters(Sampling(), options={})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("top_p", 1.1),
        ("seed", "7"),
        ("stop", ["a", ""]),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", 5),
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 2),
        ("logit_bias", {"1": 5}),
        ("presence_penalty", 0.5),
        ("response_format", {"type": "json_object"}),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("tools", "f"),
        ("tools", [{"type": "function"}]),
        ("view", {"thinking": True}),
        ("view", 5),
    ],
)
def test_a_value_that_cannot_be_served_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Parameters.parse({name: value})
    assert refused.value.param == name
    assert name in str(refused.value)


def test_tools_are_kept_from_the_template_where_none_may_be_called() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert Parameters.parse({"tools": tools, "tool_choice": "auto"}).tools == tuple(tools)
    assert Parameters.parse({"tools": tools, "tool_choice": "none"}).tools == ()


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
