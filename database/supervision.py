"""Keeps a server running: when it ends, it is started again."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from database.errors import DatabaseError
from database.process import Process

log = logging.getLogger(__name__)

STEADY_S = 60.0
"""A server that ran for this long is started again without delay."""

LONGEST_PAUSE_S = 30.0


class Server(Protocol):
    """What can be started, more than once, and stopped. Its `start` raises DatabaseError or OSError."""

    name: str

    @property
    def process(self) -> Process: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def pause_s(failures: int) -> float:
    """How long to wait before the next start, after so many that did not last."""
    return 0.0 if failures == 0 else min(0.25 * 2 ** (failures - 1), LONGEST_PAUSE_S)


class Supervisor:
    """Watches over a server that was started.

    restarted: set when it has been started again; then the event for the next time takes its place
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.restarted = asyncio.Event()

    async def keep_running(self) -> None:
        """Never returns; to be cancelled."""
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            began_s = clock()
            await self._server.process.ended()
            failures = 0 if clock() - began_s >= STEADY_S else failures
            how = self._server.process.how_it_ended
            ended_s = clock()
            while True:
                log.error("%s %s; starting it again%s", self._server.name, how, _after(pause_s(failures)))
                await asyncio.sleep(pause_s(failures))
                failures += 1
                try:
                    await self._server.start()
                    break
                except (DatabaseError, OSError) as error:
                    how = f"did not start: {error}"
            log.warning("%s runs again, after %.1f s", self._server.name, clock() - ended_s)
            self.restarted.set()
            self.restarted = asyncio.Event()


def _after(pause_s: float) -> str:
    return f" in {pause_s:.2f} s" if pause_s else ""


@asynccontextmanager
async def supervised(server: Server) -> AsyncIterator[Supervisor]:
    """Start a server, keep it running inside, and stop it in order."""
    try:
        await server.start()
        supervisor = Supervisor(server)
        keeping = asyncio.create_task(supervisor.keep_running())
        try:
            yield supervisor
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
    finally:
        await server.stop()
