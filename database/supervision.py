"""Keeps a PostgreSQL running: when it ends, it is started again."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from database.errors import DatabaseError
from database.postgres import Cluster

log = logging.getLogger(__name__)

STEADY_S = 60.0
"""A server that ran for this long is started again without delay."""

LONGEST_PAUSE_S = 30.0


def pause_s(failures: int) -> float:
    """How long to wait before the next start, after so many that did not last."""
    return 0.0 if failures == 0 else min(0.25 * 2 ** (failures - 1), LONGEST_PAUSE_S)


class Supervisor:
    """Watches over a cluster that was started.

    restarted: set when the server has been started again; then the event for the next time takes its place
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.restarted = asyncio.Event()

    async def keep_running(self) -> None:
        """Never returns; to be cancelled."""
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            began_s = clock()
            await self._cluster.postmaster.ended()
            failures = 0 if clock() - began_s >= STEADY_S else failures
            how = self._cluster.postmaster.how_it_ended
            while True:
                log.error("PostgreSQL %s; starting it again in %.2f s", how, pause_s(failures))
                await asyncio.sleep(pause_s(failures))
                failures += 1
                try:
                    await self._cluster.start()
                    break
                except (DatabaseError, OSError) as error:
                    how = f"did not start: {error}"
            log.warning("PostgreSQL runs again")
            self.restarted.set()
            self.restarted = asyncio.Event()


@asynccontextmanager
async def supervised(cluster: Cluster) -> AsyncIterator[Supervisor]:
    """Start a cluster, keep it running inside, and stop it in order."""
    try:
        await cluster.start()
        supervisor = Supervisor(cluster)
        keeping = asyncio.create_task(supervisor.keep_running())
        try:
            yield supervisor
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
    finally:
        await cluster.stop()
