"""The shorter way of a chunk through LiteLLM gives what the longer one does."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import litellm
import pytest
from litellm.litellm_core_utils import streaming_handler
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices, Usage

from providers import litellm_stream
from providers.litellm_stream import Whole, merged
from tests.providers.test_chat import CALL, HI, TOOLS, Scripted, router

__all__ = ["router"]  # a fixture


@pytest.fixture
def installed() -> Iterator[Callable[[], None]]:
    before = CustomStreamWrapper.chunk_creator, streaming_handler.asyncify
    yield litellm_stream.install
    CustomStreamWrapper.chunk_creator, streaming_handler.asyncify = before


async def chunks(of: litellm.Router, **more: Any) -> list[Any]:
    """What a client is told, but for what differs from one answer to the next."""
    stream: Any = await of.acompletion(model="Small", messages=HI, stream=True, **more)
    return [chunk async for chunk in stream]


def told(chunks: list[Any]) -> list[dict[str, Any]]:
    return [chunk.model_dump(exclude={"id", "created"}, exclude_none=True) for chunk in chunks]


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (("Hel", "lo", " there"), {}),
        (("Hel", "lo"), {"stream_options": {"include_usage": True}}),
        (("Hel", "lo"), {"max_tokens": 5, "n": 2}),
        (("I call. ", *CALL), {"tools": TOOLS}),
        ((), {}),
    ],
)
async def test_a_client_is_told_the_same(
    router: Callable[[Scripted], litellm.Router],
    installed: Callable[[], None],
    words: tuple[str, ...],
    more: dict[str, Any],
) -> None:
    longer = await chunks(router(Scripted(*words)), **more)
    installed()
    shorter = await chunks(router(Scripted(*words)), **more)
    assert told(shorter) == told(longer)
    assert len({chunk.id for chunk in shorter}) == 1
    assert len({chunk.created for chunk in shorter}) == 1


def text(said: str, index: int = 0, **more: Any) -> ModelResponseStream:
    delta = Delta(**({"content": said} | more))
    return ModelResponseStream(id="1", choices=[StreamingChoices(index=index, delta=delta)])


def test_texts_that_follow_each_other_become_one_and_are_told_as_they_were() -> None:
    told = [text("a", role="assistant"), *(text(letter) for letter in "bcde")]
    kept = merged(told)
    assert [chunk.choices[0].delta.content for chunk in kept] == ["a", "bcde"]
    assert [chunk.choices[0].delta.content for chunk in told] == ["a", "b", "c", "d", "e"]
    assert [chunk.choices[0].delta.content for chunk in merged([*kept, text("f")])] == ["a", "bcdef"]


def test_what_is_more_than_text_or_of_another_answer_stays_apart() -> None:
    usage = text("x")
    usage.usage = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    thought = text("", content=None, reasoning_content="hm")
    kept = merged([thought, thought, text("a"), text("b", 1), text("c", 1), usage, text("d", 1)])
    assert [chunk.choices[0].delta.content for chunk in kept] == [None, "a", "bc", "x", "d"]
    assert kept[0].choices[0].delta.reasoning_content == "hmhm"


@pytest.mark.parametrize("most", [256, 3])
async def test_the_answer_that_litellm_accounts_for_is_whole(
    router: Callable[[Scripted], litellm.Router],
    installed: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    made: list[Any] = []
    build = litellm.stream_chunk_builder

    def noted(**of: Any) -> Any:
        made.append((len(of["chunks"]), build(**of)))
        return made[-1][1]

    monkeypatch.setattr(litellm, "stream_chunk_builder", noted)
    monkeypatch.setattr(litellm_stream, "_MOST", most)
    installed()
    assert len(await chunks(router(Scripted(*"abcdefgh")))) > 8
    ((kept, answer),) = made
    assert kept < 8
    assert answer.choices[0].message.content == "abcdefgh"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 9, "the last one ends it"


@pytest.mark.parametrize("few", [32, 1])
async def test_an_answer_is_made_of_few_chunks_where_it_stands_and_of_many_on_a_thread(
    router: Callable[[Scripted], litellm.Router],
    installed: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    few: int,
) -> None:
    threads: list[threading.Thread] = []
    build = litellm.stream_chunk_builder

    def noted(**of: Any) -> Any:
        threads.append(threading.current_thread())
        return build(**of)

    monkeypatch.setattr(litellm, "stream_chunk_builder", noted)
    monkeypatch.setattr(litellm_stream, "_FEW", few)
    installed()
    await chunks(router(Scripted("Hel", "lo")), stream_options={"include_usage": True})
    assert {thread is threading.current_thread() for thread in threads} == {few > 1}


@pytest.mark.parametrize("few", [32, 1])
@pytest.mark.parametrize("more", [{}, {"stream_options": {"include_usage": True}}], ids=["", "usage"])
async def test_an_answer_is_made_once(
    router: Callable[[Scripted], litellm.Router],
    installed: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    few: int,
    more: dict[str, Any],
) -> None:
    made: list[Any] = []
    accounted: list[Any] = []
    build, success = litellm.stream_chunk_builder, Logging.dispatch_success_handlers

    def noted(**of: Any) -> Any:
        made.append(build(**of))
        return made[-1]

    async def told(self: Logging, result: Any = None, **of: Any) -> None:
        accounted.append(result.model_dump(exclude={"id", "created"}))
        await success(self, result, **of)

    monkeypatch.setattr(litellm, "stream_chunk_builder", noted)
    monkeypatch.setattr(litellm_stream, "_FEW", few)
    monkeypatch.setattr(Logging, "dispatch_success_handlers", told)
    serving = router(Scripted("Hel", "lo"))
    await chunks(serving, **more)
    await asyncio.sleep(0)
    before = len(made)
    installed()
    await chunks(serving, **more)
    await asyncio.sleep(0)
    assert len(made) == before + 1
    assert accounted[0] == accounted[1]
    assert accounted[1]["choices"][0]["message"]["content"] == "Hello"


async def test_what_was_made_is_forgotten_with_its_request(
    router: Callable[[Scripted], litellm.Router], installed: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []
    build = litellm.stream_chunk_builder

    def noted(**of: Any) -> Any:
        answer = build(**of)
        made.append(weakref.ref(answer))
        return answer

    monkeypatch.setattr(litellm, "stream_chunk_builder", noted)
    installed()
    await chunks(router(Scripted("Hel", "lo")))
    while len(asyncio.all_tasks()) > 1:  # LiteLLM's accounts
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=0.1)
    gc.collect()
    assert [answer() for answer in made] == [None]


@pytest.mark.parametrize("more", [{}, {"n": 3}, {"logprobs": True}], ids=["texts", "several", "logprobs"])
async def test_a_long_stream_is_not_looked_at_again_and_again(
    router: Callable[[Scripted], litellm.Router],
    installed: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
) -> None:
    looked_at: list[int] = []

    def noted(chunks: Sequence[ModelResponseStream]) -> list[ModelResponseStream]:
        looked_at.append(len(chunks))
        return merged(chunks)

    monkeypatch.setattr(litellm_stream, "merged", noted)
    monkeypatch.setattr(litellm_stream, "_MOST", 10)
    installed()
    told = await chunks(router(Scripted(*"ab" * 100)), **more)
    assert max(looked_at) <= 10
    assert sum(looked_at) <= 1.3 * len(told)


async def test_chunks_of_other_providers_go_their_own_way(installed: Callable[[], None]) -> None:
    async def said() -> str:
        stream: Any = await litellm.acompletion(
            model="openai/other", messages=HI, stream=True, mock_response="Good day to you."
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    installed()
    assert await said() == "Good day to you."


def test_litellm_still_goes_the_longer_way() -> None:
    """When this fails, look at what LiteLLM does now: providers/litellm_stream.py may have become useless, or wrong."""
    names = CustomStreamWrapper.chunk_creator.__code__.co_names
    assert {"model_response_creator", "_dispatch_provider_chunk"} <= set(names)


@pytest.mark.parametrize("cache", [None, object()])
def test_an_answer_is_copied_to_the_depths_for_a_cache_alone(monkeypatch: pytest.MonkeyPatch, cache: object) -> None:
    monkeypatch.setattr(litellm, "cache", cache)
    whole = Whole(choices=[{"message": {"content": "Hi"}}])
    copied = whole.model_copy(deep=True)
    assert copied is not whole
    assert copied == whole
    assert (copied.choices is whole.choices) is (cache is None)
