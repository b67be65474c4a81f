import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from llmux.errors import InsufficientVram, InvalidRequest, ModelBusy, TimedOut
from llmux.request import begin
from providers.leased import Leased
from vram.arbiter import Arbiter
from vram.device import FixedBudget
from vram.ledger import Ledger
from vram.model import ModelSpec
from vram.snapshot import Wait


class Instant:
    """A loader whose models are their own names."""

    async def load(self, model: str) -> str:
        return model

    async def unload(self, model: str, runtime: str) -> None:
        pass


@pytest.fixture
async def arbiter(tmp_path: Path) -> AsyncIterator[Arbiter[str]]:
    arbiter = Arbiter(
        {"small": ModelSpec("small", "llm", 10), "giant": ModelSpec("giant", "llm", 1000)},
        FixedBudget(100),
        Ledger(tmp_path / "ledger.json", "test"),
        Instant(),
        max_wait_s={"llm": 20, "asr": 1, "tts": 2},
        queue_per_model=4,
        queue_total=8,
        load_s=60,
    )
    await arbiter.start()
    yield arbiter
    await arbiter.stop(1)


def leases(arbiter: Arbiter[str]) -> int:
    return sum(model.leases for model in arbiter.snapshot().models)


async def test_items_come_through_and_the_lease_is_held_while_they_do(arbiter: Arbiter[str]) -> None:
    async def work(runtime: str) -> AsyncGenerator[str, None]:
        for number in range(50):
            assert leases(arbiter) == 1
            yield f"{runtime}{number}"

    items = [item async for item in Leased(arbiter, request_s=60).stream("small", work)]
    assert items == [f"small{number}" for number in range(50)]
    assert leases(arbiter) == 0


async def test_the_request_knows_where_its_lease_stands_until_it_is_granted(arbiter: Arbiter[str]) -> None:
    waits: list[Callable[[], Wait | None]] = []
    begin().on_lease = lambda wait, give_back: waits.append(wait)
    may_end = asyncio.Event()

    async def work(runtime: str) -> AsyncGenerator[str, None]:
        yield runtime
        await may_end.wait()

    first, second = (Leased(arbiter, request_s=60).stream("small", work) for _ in range(2))
    async with aclosing(first), aclosing(second):
        await anext(first)
        next_in_line = asyncio.ensure_future(anext(second))
        for _ in range(10):
            await asyncio.sleep(0)
        assert waits[0]() is None
        assert waits[1]() == Wait(position=1, waiting_for="queue", load_percent=None, expected_s=None)
        may_end.set()
        assert await anext(first, None) is None
        assert await next_in_line == "small"
        assert waits[1]() is None


async def test_what_the_runtime_raises_reaches_the_client(arbiter: Arbiter[str]) -> None:
    async def work(runtime: str) -> AsyncGenerator[str, None]:
        yield "first"
        raise InvalidRequest("no")

    stream = Leased(arbiter, request_s=60).stream("small", work)
    assert await anext(stream) == "first"
    with pytest.raises(InvalidRequest):
        await anext(stream)
    assert leases(arbiter) == 0


async def test_a_refusal_of_the_arbiters_becomes_an_answer(arbiter: Arbiter[str]) -> None:
    async def work(runtime: str) -> AsyncGenerator[str, None]:
        yield runtime

    with pytest.raises(InsufficientVram, match="can never fit"):
        await anext(Leased(arbiter, request_s=60).stream("giant", work))


async def test_closing_stops_the_work_and_frees_the_lease_after_it(arbiter: Arbiter[str]) -> None:
    stopped = asyncio.Event()

    async def work(runtime: str) -> AsyncGenerator[str, None]:
        try:
            while True:
                yield runtime
        finally:
            assert leases(arbiter) == 1
            stopped.set()

    async with aclosing(Leased(arbiter, request_s=60).stream("small", work)) as stream:
        await anext(stream)
    await stopped.wait()
    await asyncio.sleep(0)
    assert leases(arbiter) == 0


async def test_a_lease_given_back_for_its_request_ends_even_where_nobody_closes_the_stream(
    arbiter: Arbiter[str],
) -> None:
    give_backs: list[Callable[[], None]] = []
    begin().on_lease = lambda wait, give_back: give_backs.append(give_back)

    async def work(runtime: str) -> AsyncGenerator[str, None]:
        await asyncio.Event().wait()
        yield runtime

    streams = [Leased(arbiter, request_s=60).stream("small", work) for _ in range(2)]
    served, waiting = (asyncio.ensure_future(anext(stream)) for stream in streams)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (leases(arbiter), arbiter.snapshot().models[0].waiting) == (1, 1)
    for give_back in give_backs:
        give_back()
    for forgotten in (waiting, served):
        with pytest.raises(asyncio.CancelledError):
            await forgotten
    assert (leases(arbiter), arbiter.snapshot().models[0].waiting) == (0, 0)


async def test_a_lease_given_back_twice_still_ends_in_order(arbiter: Arbiter[str]) -> None:
    give_backs: list[Callable[[], None]] = []
    begin().on_lease = lambda wait, give_back: give_backs.append(give_back)
    may_end = asyncio.Event()

    async def work(runtime: str) -> AsyncGenerator[str, None]:
        try:
            while True:
                yield runtime
        finally:
            await may_end.wait()  # native work that needs its time to stop

    async with aclosing(Leased(arbiter, request_s=60).stream("small", work)) as stream:
        await anext(stream)
    for _ in range(10):
        give_backs[0]()
        await asyncio.sleep(0)
    assert leases(arbiter) == 1
    may_end.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert leases(arbiter) == 0


async def test_a_client_cancelled_over_and_over_does_not_disturb_the_end(arbiter: Arbiter[str]) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(runtime: str) -> AsyncGenerator[str, None]:
        begun.set()
        try:
            await asyncio.Event().wait()
            yield runtime
        finally:
            await may_end.wait()  # native work that needs its time to stop
            ended.set()

    async def client() -> None:
        async for _ in Leased(arbiter, request_s=60).stream("small", work):
            pass

    task = asyncio.create_task(client())
    await begun.wait()
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert leases(arbiter) == 1
    may_end.set()
    await ended.wait()
    await asyncio.sleep(0)
    assert leases(arbiter) == 0


async def test_a_request_that_takes_too_long_is_ended(arbiter: Arbiter[str]) -> None:
    async def work(runtime: str) -> AsyncGenerator[str, None]:
        await asyncio.Event().wait()
        yield runtime

    with pytest.raises(TimedOut):
        await anext(Leased(arbiter, request_s=0).stream("small", work))
    assert leases(arbiter) == 0


async def test_a_slow_client_holds_back_the_work(arbiter: Arbiter[str]) -> None:
    made = 0

    async def work(runtime: str) -> AsyncGenerator[int, None]:
        nonlocal made
        while True:
            made += 1
            yield made

    async with aclosing(Leased(arbiter, request_s=60).stream("small", work)) as stream:
        await anext(stream)
        for _ in range(500):
            await asyncio.sleep(0)
        assert made < 50


async def test_work_that_is_to_be_alone_is_refused_beside_other_work(arbiter: Arbiter[str]) -> None:
    leased = Leased(arbiter, request_s=60)

    async def work(runtime: str) -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.Event().wait()

    async with aclosing(leased.stream("small", work)) as others:
        await anext(others)
        with pytest.raises(ModelBusy, match="to itself"):
            await anext(leased.stream("small", work, alone=True))


async def test_beside_work_that_is_alone_everything_else_is_refused_until_it_ends(arbiter: Arbiter[str]) -> None:
    leased = Leased(arbiter, request_s=60)
    go_on = asyncio.Event()

    async def work(runtime: str) -> AsyncGenerator[int, None]:
        yield 1
        await go_on.wait()

    async with aclosing(leased.stream("small", work, alone=True)) as alone:
        await anext(alone)
        for also in (False, True):
            with pytest.raises(ModelBusy) as refused:
                await anext(leased.stream("small", work, alone=also))
            assert refused.value.response_headers() == {"Retry-After": "60"}
        go_on.set()
        assert [item async for item in alone] == []
    assert [item async for item in leased.stream("small", work)] == [1]
