"""An event loop whose clock jumps: what would take minutes takes none, and nothing ever sleeps."""

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any

import pytest


class _Selector(selectors.SelectSelector):
    """Where a loop would sleep until its next timer, time is moved there instead."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits, and nothing will ever happen")
            self.now_s += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]] | Any:
    return {"jumping": JumpingLoop}
