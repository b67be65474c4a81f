"""What one task hands another, item by item.

asyncio.Queue is for many on both sides. Two of them, with one on each side, were a tenth of the calls that a token took
(docs/measurements.md).
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """From one writer to one reader, in order.

    size: most items that wait for the reader before `put` waits for him
    """

    def __init__(self, size: int | None = None) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed: asyncio.Future[None] | None = None
        """What the writer or the reader waits for: never both, as it is not full and empty at once."""

    async def get(self) -> T:
        while not self._items:
            await self._change()
        item = self._items.popleft()
        if self._changed is not None:
            self._wake()
        return item

    async def put(self, item: T) -> None:
        while self._size is not None and len(self._items) >= self._size:
            await self._change()
        self.put_nowait(item)

    def put_nowait(self, item: T) -> None:
        """Whether there is room or not."""
        self._items.append(item)
        if self._changed is not None:
            self._wake()

    def clear(self) -> None:
        """Drop what was not read."""
        self._items.clear()
        self._wake()

    def _change(self) -> asyncio.Future[None]:
        self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():  # it is where whoever waited was cancelled
            changed.set_result(None)
