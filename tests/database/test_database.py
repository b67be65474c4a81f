"""The public face: a database inside `async with`."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import database
from database.postmaster import PidFile
from tests.database.conftest import copy
from tests.gateway import ROOT

HOLDS_ONE = """
import asyncio, sys
from pathlib import Path
import database

async def hold() -> None:
    async with database.embedded(Path(sys.argv[1])) as environment:
        print(environment.variables["DATABASE_URL"], flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


def in_checkout() -> dict[str, str]:
    search = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search)}


@pytest.fixture
def without_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Generating it has tests of its own."""

    async def client(schema: Path, folder: Path) -> Path:
        return folder

    monkeypatch.setattr("database.database.client", client)


@pytest.mark.usefixtures("without_client")
async def test_an_embedded_one_has_litellms_tables_inside_and_is_stopped_afterwards(tmp_path: Path) -> None:
    async with database.embedded(tmp_path / "state") as environment:
        url = environment.variables["DATABASE_URL"]
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute('SELECT FROM "LiteLLM_VerificationToken"')
    assert PidFile.read(tmp_path / "state" / "postgres" / "data") is None


@pytest.mark.usefixtures("without_client")
async def test_a_folder_has_one_database_at_a_time(tmp_path: Path) -> None:
    async with database.embedded(tmp_path / "state"):
        with pytest.raises(database.DatabaseError, match="in use by another process"):
            async with database.embedded(tmp_path / "state"):
                pass


async def test_a_database_whose_process_was_killed_is_taken_over_as_it_runs(
    tmp_path: Path, litellms_client: Path
) -> None:
    copy(litellms_client, tmp_path / "state" / "client")
    held = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS_ONE, str(tmp_path / "state"), stdout=PIPE, env=in_checkout()
    )
    assert held.stdout is not None
    url = (await held.stdout.readline()).decode().strip()
    held.kill()
    await held.wait()
    async with database.embedded(tmp_path / "state") as environment:
        assert environment.variables["DATABASE_URL"] == url
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("SELECT 1")


@pytest.mark.usefixtures("without_client")
async def test_a_database_that_cannot_be_used_is_stopped_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(url: str) -> int:
        raise database.DatabaseError("newer")

    monkeypatch.setattr("database.database.migrate", refuse)
    with pytest.raises(database.DatabaseError, match="newer"):
        async with database.embedded(tmp_path / "state"):
            pass
    assert PidFile.read(tmp_path / "state" / "postgres" / "data") is None


@pytest.mark.usefixtures("without_client")
async def test_an_external_one_is_brought_up_to_date_and_left_running(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    url = new_database()
    async with database.external(url, tmp_path / "state") as environment:
        assert environment.variables["DATABASE_URL"] == url
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute('SELECT FROM "LiteLLM_VerificationToken"')
