"""Requests that join and leave while others are computed, on an engine that counts."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from llmux.errors import InvalidRequest
from providers.engine import EngineLoop
from providers.runtime import Piece
from providers.worker import Worker
from vram.refusal import DeviceFailed

SLOTS = 3


@dataclass(frozen=True)
class Count:
    """prompt: tokens of it; to: the last number of the answer; fails_at: the number in whose place an error comes"""

    prompt: int
    to: int
    fails_at: int | None = None
    error: Exception = field(default_factory=lambda: InvalidRequest("no such number"))


@dataclass(eq=False)
class Counting:
    wanted: Count
    left: int
    said: int = 0


class Counter:
    """Says the numbers from 1 on. `go` lets it do its next steps; a test that wants none takes it away. Whoever counts
    to `stuck` cannot be let go.
    """

    step_tokens = 8

    def __init__(self) -> None:
        self.held: list[Counting] = []
        self.most_held = 0
        self.steps: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.stepped = threading.Event()
        self.threads: set[int] = set()
        self.stuck: int | None = None
        self.prepares: Callable[[], object] | None = None

    def preparation(self, request: Count) -> Callable[[], object] | None:
        return self.prepares

    def add(self, request: Count) -> Counting:
        if not request.prompt:
            raise InvalidRequest("empty")
        sequence = Counting(request, request.prompt)
        self.held.append(sequence)
        self.most_held = max(self.most_held, len(self.held))
        return sequence

    def step(self, shares: Sequence[tuple[Counting, int]]) -> Mapping[Counting, Piece | Exception]:
        self.threads.add(threading.get_ident())
        self.steps.append([tokens for _, tokens in shares])
        written: dict[Counting, Piece | Exception] = {}
        for sequence, tokens in shares:
            assert sequence in self.held
            wanted = sequence.wanted
            sequence.left = max(0, sequence.left - tokens)
            if sequence.left:
                continue
            sequence.said += 1
            if sequence.said == wanted.fails_at:
                written[sequence] = wanted.error
            else:
                ended = sequence.said == wanted.to
                written[sequence] = Piece(f"{sequence.said} ", 1, wanted.prompt, "length" if ended else None)
        self.stepped.set()
        self.go.wait()
        return written

    def remove(self, sequence: Counting) -> None:
        self.held.remove(sequence)
        if sequence.wanted.to == self.stuck:
            self.stuck = None
            raise MemoryError("no room for the one that waited for it")


@pytest.fixture
def engine() -> Counter:
    return Counter()


@pytest.fixture
async def loop(engine: Counter) -> AsyncIterator[EngineLoop[Count, Counting]]:
    worker = Worker("test")
    yield EngineLoop(engine, worker, slots=SLOTS)
    await worker.close()


async def read(loop: EngineLoop[Count, Counting], request: Count) -> str:
    return "".join([piece.text async for piece in loop.stream(request)])


def counted(to: int) -> str:
    return "".join(f"{number} " for number in range(1, to + 1))


async def test_each_gets_its_own_answer_and_all_are_computed_together(
    loop: EngineLoop[Count, Counting], engine: Counter
) -> None:
    requests = [Count(prompt, to) for prompt, to in ((3, 20), (9, 5), (1, 12))]
    answers = await asyncio.gather(*(read(loop, request) for request in requests))
    assert answers == [counted(request.to) for request in requests]
    assert max(len(step) for step in engine.steps) == 3
    assert len(engine.threads) == 1
    assert not engine.held


async def test_an_answer_that_is_alone_comes_token_by_token(loop: EngineLoop[Count, Counting]) -> None:
    pieces = [piece async for piece in loop.stream(Count(4, 10))]
    assert [piece.tokens for piece in pieces] == [1] * 10


async def test_of_several_what_is_written_within_a_moment_goes_as_one_piece(
    loop: EngineLoop[Count, Counting],
) -> None:
    async def pieces() -> list[int]:
        return [piece.tokens async for piece in loop.stream(Count(4, 200))]

    for tokens in await asyncio.gather(pieces(), pieces()):
        assert sum(tokens) == 200
        assert max(tokens) > 1


async def test_no_more_than_the_slots_are_held_and_whoever_waits_comes_in_order(
    loop: EngineLoop[Count, Counting], engine: Counter
) -> None:
    ended: list[int] = []

    async def one(number: int) -> None:
        await read(loop, Count(1, 5))
        ended.append(number)

    await asyncio.gather(*(one(number) for number in range(10)))
    assert engine.most_held == SLOTS
    assert ended == sorted(ended)


async def test_an_answer_goes_on_beside_a_long_prompt(loop: EngineLoop[Count, Counting], engine: Counter) -> None:
    async with aclosing(loop.stream(Count(1, 10_000))) as running:
        await anext(running)
        assert await read(loop, Count(200, 1)) == counted(1)
    beside = [step for step in engine.steps if len(step) == 2]
    assert len(beside) >= 200 / engine.step_tokens
    assert all(1 in step for step in beside)


async def test_closing_takes_the_sequence_out_before_the_close_returns(
    loop: EngineLoop[Count, Counting], engine: Counter
) -> None:
    other = asyncio.create_task(read(loop, Count(1, 300)))
    async with aclosing(loop.stream(Count(1, 10_000))) as pieces:
        await anext(pieces)
    assert [sequence.wanted.to for sequence in engine.held] in ([300], [])
    assert await other == counted(300)


async def test_closing_within_a_prompt_takes_it_out_too(loop: EngineLoop[Count, Counting], engine: Counter) -> None:
    engine.go.clear()
    task = asyncio.create_task(read(loop, Count(100, 1)))
    await asyncio.to_thread(engine.stepped.wait)
    task.cancel()
    asyncio.get_running_loop().call_soon(engine.go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not engine.held
    assert len(engine.steps) <= 2, "this prompt takes thirteen"


async def test_one_that_waits_for_room_may_leave(loop: EngineLoop[Count, Counting], engine: Counter) -> None:
    engine.go.clear()
    running = [asyncio.create_task(read(loop, Count(1, 5))) for _ in range(SLOTS)]
    await asyncio.to_thread(engine.stepped.wait)
    waiting = asyncio.create_task(read(loop, Count(1, 77)))
    await asyncio.sleep(0)
    waiting.cancel()
    engine.go.set()
    assert await asyncio.gather(*running) == [counted(5)] * SLOTS
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert engine.most_held == SLOTS


async def test_what_is_wrong_with_one_does_not_touch_the_others(
    loop: EngineLoop[Count, Counting], engine: Counter
) -> None:
    good, refused, failed = await asyncio.gather(
        read(loop, Count(2, 40)), read(loop, Count(0, 1)), read(loop, Count(2, 40, fails_at=7)), return_exceptions=True
    )
    assert good == counted(40)
    assert isinstance(refused, InvalidRequest)
    assert isinstance(failed, InvalidRequest)
    assert not engine.held


@pytest.mark.parametrize("error", [MemoryError("out of memory"), DeviceFailed("CUDA error: unspecified")])
async def test_what_is_wrong_with_the_device_ends_all_of_them(
    loop: EngineLoop[Count, Counting], engine: Counter, error: Exception
) -> None:
    ended = await asyncio.gather(
        read(loop, Count(2, 10, fails_at=2, error=error)),
        *(read(loop, Count(2, 10_000)) for _ in range(5)),
        return_exceptions=True,
    )
    assert [type(each) for each in ended] == [type(error)] * 6, "those that wait for room, too"
    assert not engine.held
    assert await read(loop, Count(2, 3)) == counted(3), "whoever comes later is served"


@pytest.mark.parametrize("to", [3, 10_000], ids=["at its end", "before"])
async def test_what_cannot_be_let_go_ends_all_of_them_and_strands_nobody(
    loop: EngineLoop[Count, Counting], engine: Counter, to: int
) -> None:
    engine.stuck = to
    others = [asyncio.create_task(read(loop, Count(2, 20_000))) for _ in range(SLOTS)]
    async with aclosing(loop.stream(Count(2, to))) as leaving:
        others.pop().cancel()
        async for piece in leaving:
            if piece.finish_reason is not None or to > 3:
                break
    ended = await asyncio.gather(*others, return_exceptions=True)
    assert [type(each) for each in ended] == [MemoryError] * len(others)
    assert await read(loop, Count(2, 3)) == counted(3), "whoever comes later is served"


async def test_a_slow_reader_pauses_its_own_answer_alone(
    loop: EngineLoop[Count, Counting], engine: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.pace.LONGEST_S", 0.0)
    async with aclosing(loop.stream(Count(1, 3_000))) as slow:
        said = (await anext(slow)).text
        assert await read(loop, Count(1, 2_000)) == counted(2_000)
        assert engine.held[0].said < 1_000
        said += "".join([piece.text async for piece in slow])
    assert said == counted(3_000), "nothing is lost"


@pytest.mark.parametrize("seed", range(8))
async def test_random_joins_and_leaves_leave_nothing_behind(
    loop: EngineLoop[Count, Counting], engine: Counter, seed: int
) -> None:
    draw = random.Random(seed)

    async def one() -> None:
        request = Count(draw.randrange(40), draw.randrange(1, 60), draw.choice([None, None, 3]))
        stays = draw.randrange(80)
        for _ in range(draw.randrange(30)):
            await asyncio.sleep(0)
        said = ""
        async with aclosing(loop.stream(request)) as pieces:
            try:
                async for piece in pieces:
                    said += piece.text
                    stays -= piece.tokens
                    if stays < 0:
                        break
            except InvalidRequest:
                assert not request.prompt or request.fails_at
        assert counted(request.to).startswith(said)

    await asyncio.gather(*(one() for _ in range(60)))
    assert not engine.held
    assert await loop._worker.run(lambda _: "free") == "free", "the job of the loop is over"
    assert not loop._waiting
    assert not loop._running


async def test_what_a_request_takes_first_is_made_while_others_are_computed(
    engine: Counter, loop: EngineLoop[Count, Counting]
) -> None:
    others_are_done = threading.Event()
    engine.prepares = others_are_done.wait
    first = asyncio.create_task(read(loop, Count(1, 2)))
    await asyncio.sleep(0)  # it prepares
    engine.prepares = None
    assert await read(loop, Count(1, 3)) == counted(3)
    assert not first.done()
    others_are_done.set()
    assert await first == counted(2)


async def test_a_preparation_that_fails_is_the_error_of_its_request(
    engine: Counter, loop: EngineLoop[Count, Counting]
) -> None:
    def fail() -> None:
        raise InvalidRequest("no words")

    engine.prepares = fail
    with pytest.raises(InvalidRequest, match="no words"):
        await read(loop, Count(1, 2))
    assert engine.steps == []


async def test_who_leaves_waits_for_its_preparation(engine: Counter, loop: EngineLoop[Count, Counting]) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def prepare() -> None:
        begun.set()
        assert go_on.wait(60)
        ended.set()

    engine.prepares = prepare
    reading = asyncio.create_task(read(loop, Count(1, 2)))
    assert await asyncio.to_thread(begun.wait, 60)
    reading.cancel()
    await asyncio.sleep(0)
    assert not reading.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert ended.is_set()
    assert engine.held == []
