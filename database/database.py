"""Where LiteLLM's keys live, from the first start to the last: one of our own, or somebody else's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from database import programs
from database.client import client
from database.environment import Environment, environment
from database.files import only_one
from database.installation import check_installed
from database.migrations import migrate, schema_file
from database.postgres import Cluster
from database.query_engine import QueryEngine
from database.supervision import supervised


@asynccontextmanager
async def embedded(state_dir: Path) -> AsyncIterator[Environment]:
    """A PostgreSQL of our own, in a folder: started, brought up to date, kept running inside, stopped in order.

    state_dir: everything lies in here, readable by nobody else; one process at a time
    """
    check_installed()
    with only_one(state_dir):
        cluster = Cluster(state_dir / "postgres", programs.postgres())
        packages = await client(schema_file(), state_dir / "client")
        async with supervised(cluster), _served(cluster.url, packages, state_dir) as found:
            yield found


@asynccontextmanager
async def external(url: str, state_dir: Path) -> AsyncIterator[Environment]:
    """A PostgreSQL that somebody else looks after, brought up to date.

    url: postgresql://user:password@host:port/name
    state_dir: for the generated client; one process at a time
    """
    check_installed()
    with only_one(state_dir):
        packages = await client(schema_file(), state_dir / "client")
        async with _served(url, packages, state_dir) as found:
            yield found


@asynccontextmanager
async def _served(url: str, packages: Path, state_dir: Path) -> AsyncIterator[Environment]:
    """The database at url, brought up to date, with an engine over it."""
    await migrate(url)
    engine = QueryEngine(url, schema_file(), state_dir)
    async with supervised(engine):
        yield environment(url, engine.socket_path, packages)
