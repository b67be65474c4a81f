"""Loads and unloads, told as outcomes. How the arbiter uses them is in test_arbiter.py."""

import asyncio
from collections.abc import Awaitable, Callable

from vram.device import Reading
from vram.gauge import Gauge
from vram.refusal import LoadFailed
from vram.transfer import Failed, Loaded, Outcome, Transfers, Unloaded

SIZES = {"a": 4, "b": 7}


async def at_once(model: str) -> None:
    pass


class Card:
    """A loader, and the card that it loads onto."""

    name = "card"
    budget_bytes = 16

    def __init__(self) -> None:
        self.present: list[str] = []
        self.keeps_bytes = 0
        """Of an unload: until this is 0 again."""
        self.on_load: Callable[[str], Awaitable[None]] = at_once

    def read(self) -> Reading:
        own_bytes = sum(SIZES[model] for model in self.present) + (0 if self.present else self.keeps_bytes)
        return Reading(16, own_bytes, own_bytes)

    async def load(self, model: str) -> str:
        await self.on_load(model)
        self.present.append(model)
        return model.upper()

    async def unload(self, model: str, runtime: str) -> None:
        assert runtime == model.upper()
        self.present.remove(model)


def transfers(card: Card) -> tuple[Transfers[str], list[Outcome]]:
    told: list[Outcome] = []
    return Transfers(card, Gauge(card), told.append, asyncio.get_running_loop().time), told


async def test_what_a_load_takes_is_seen_on_the_device() -> None:
    moves, told = transfers(Card())
    moves.load("a", 5)
    assert await moves.ended("a", 1)

    assert told == [Loaded("a", 0, 5, 4, Reading(16, 4, 4))]
    assert moves.runtimes == {"a": "A"}


async def test_two_at_the_same_time_cannot_be_told_apart() -> None:
    moves, told = transfers(Card())
    moves.load("a", 5)
    moves.load("b", 5)
    await moves.ended("a", 1)
    await moves.ended("b", 1)

    assert [each.measured_bytes for each in told if isinstance(each, Loaded)] == [None, None]


async def test_beside_a_model_that_serves_it_cannot_be_told_either() -> None:
    moves, told = transfers(Card())
    moves.load("a", 5)
    moves.others_serve()
    await moves.ended("a", 1)
    moves.load("b", 5)
    await moves.ended("b", 1)

    assert [each.measured_bytes for each in told if isinstance(each, Loaded)] == [None, 7]


async def test_a_load_that_fails_says_whether_memory_ran_out() -> None:
    card = Card()
    moves, told = transfers(card)
    errors: dict[str, Exception] = {"a": MemoryError(), "b": OSError()}

    async def fail(model: str) -> None:
        raise errors[model]

    card.on_load = fail
    for model in "ab":
        moves.load(model, 5)
        await moves.ended(model, 1)

    assert told == [Failed("a", errors["a"], True, card.read()), Failed("b", errors["b"], False, card.read())]


async def test_an_unload_is_over_when_its_memory_is_back() -> None:
    card = Card()
    moves, told = transfers(card)
    moves.load("a", 5)
    await moves.ended("a", 1)
    card.keeps_bytes = 4

    moves.unload("a")
    assert not await moves.ended("a", 0.3)
    card.keeps_bytes = 0
    assert await moves.ended("a", 0.3)

    assert told[1:] == [Unloaded("a", Reading(16, 0, 0), None)]
    assert moves.runtimes == {}


async def test_what_is_cancelled_is_told_as_a_failed_load() -> None:
    card = Card()
    moves, told = transfers(card)

    async def hang(model: str) -> None:
        await asyncio.Event().wait()

    card.on_load = hang
    moves.load("a", 5)
    await asyncio.sleep(0)
    await moves.cancel(1)

    (failed,) = told
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, LoadFailed)
    assert await moves.ended("a", 0)
