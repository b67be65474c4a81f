"""What goes into a channel comes out of it, in order, and whoever must wait is woken."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.channel import Channel


@given(st.lists(st.integers(), max_size=40), st.integers(1, 5) | st.none(), st.data())
def test_all_items_come_in_order_whoever_is_faster(items: list[int], size: int | None, data: st.DataObject) -> None:
    channel: Channel[int] = Channel(size)

    async def turns() -> None:
        for _ in range(data.draw(st.integers(0, 3))):
            await asyncio.sleep(0)

    async def write() -> None:
        for item in items:
            await turns()
            await channel.put(item)

    async def read() -> list[int]:
        read = []
        for _ in items:
            await turns()
            read.append(await channel.get())
        return read

    async def both() -> list[int]:
        return (await asyncio.gather(read(), write()))[0]

    assert asyncio.run(asyncio.wait_for(both(), 60)) == items


async def test_a_writer_waits_while_it_is_full() -> None:
    channel: Channel[str] = Channel(1)
    await channel.put("a")
    writing = asyncio.create_task(channel.put("b"))
    await asyncio.sleep(0)
    assert not writing.done()
    assert [await channel.get(), await channel.get()] == ["a", "b"]
    assert writing.done()


async def test_what_must_be_said_is_put_whether_there_is_room_or_not() -> None:
    channel: Channel[str] = Channel(1)
    for item in "abc":
        channel.put_nowait(item)
    writing = asyncio.create_task(channel.put("d"))
    assert [await channel.get() for _ in range(4)] == list("abcd")
    await writing


async def test_what_nobody_wants_is_dropped() -> None:
    channel: Channel[str] = Channel()
    for item in "ab":
        channel.put_nowait(item)
    channel.clear()
    channel.put_nowait("c")
    assert await channel.get() == "c"


async def test_a_reader_that_was_cancelled_takes_nothing_with_it() -> None:
    channel: Channel[str] = Channel()
    reading = asyncio.create_task(channel.get())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    channel.put_nowait("a")
    assert await channel.get() == "a"
