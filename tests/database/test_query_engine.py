"""The query engine is started, answers on its socket, and is started again."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from database import programs
from database.environment import ENGINE
from database.errors import DatabaseError
from database.query_engine import QueryEngine
from database.supervision import supervised

SCHEMA = ENGINE / "test" / "schema.prisma"


async def is_there(engine: QueryEngine) -> bool:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=engine.socket_path)) as http:
        return (await http.get("http://query-engine/status")).is_success


async def test_it_answers_in_a_folder_with_a_path_of_any_length_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    engine = QueryEngine("postgresql://nobody@127.0.0.1:1/nothing", SCHEMA, folder)
    async with supervised(engine):
        assert await is_there(engine)
        assert (folder / "query-engine").stat().st_mode & 0o077 == 0
    assert not engine.process.is_running
    assert list(folder.iterdir()) == []


async def test_who_asks_while_there_is_none_waits_for_the_next(tmp_path: Path) -> None:
    engine = QueryEngine("postgresql://nobody@127.0.0.1:1/nothing", SCHEMA, tmp_path)
    async with supervised(engine) as supervisor:
        killed, restarted = engine.process, supervisor.restarted
        os.kill(killed.pid, signal.SIGKILL)
        await killed.ended()
        assert await is_there(engine)
        await restarted.wait()
        assert engine.process.pid != killed.pid


async def test_a_terminals_interrupt_is_not_for_it(tmp_path: Path) -> None:
    engine = QueryEngine("postgresql://nobody@127.0.0.1:1/nothing", SCHEMA, tmp_path)
    async with supervised(engine):
        assert os.getpgid(engine.process.pid) != os.getpgid(0)


async def test_one_that_cannot_start_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DatabaseError, match="the query engine ended with exit code 1"):
        async with supervised(QueryEngine("not an address: secret", SCHEMA, tmp_path)):
            pass
    printed = capfd.readouterr().err
    assert "DATABASE_URL is not a connection string" in printed
    assert "secret" not in printed


def test_the_engines_own_tests_pass(new_database: Callable[[], str]) -> None:
    tests = sorted((ENGINE / "test").glob("*.test.js"))
    done = subprocess.run(
        [programs.node(), "--test", "--test-concurrency=2", *tests],
        env={**os.environ, "DATABASE_URL": new_database()},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, re.sub(r"(?m)^(#|ok|  )(?!.*(error|\.js)).*\n", "", done.stdout)
