"""A PostgreSQL that ends is started again, for as long as it is wanted."""

import asyncio
import logging
import os
import re
import signal
from pathlib import Path

import psycopg
import pytest

from database import programs
from database.errors import DatabaseError
from database.postgres import Cluster
from database.supervision import LONGEST_PAUSE_S, pause_s, supervised
from tests.database.conftest import copy


def test_the_first_restart_is_at_once_and_later_ones_wait_longer() -> None:
    pauses = [pause_s(failures) for failures in range(12)]
    assert pauses[:4] == [0, 0.25, 0.5, 1]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S


async def test_a_killed_server_is_back_with_a_line_in_the_log(
    tmp_path: Path, empty_cluster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy(empty_cluster, tmp_path / "postgres")
    caplog.set_level(logging.WARNING, "database.supervision")
    cluster = Cluster(tmp_path / "postgres", programs.postgres())
    async with supervised(cluster) as supervisor:
        address = cluster.url
        for _ in range(2):
            killed, restarted = cluster.process, supervisor.restarted
            os.kill(killed.pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                await restarted.wait()
            assert cluster.process.pid != killed.pid
            async with await psycopg.AsyncConnection.connect(address) as connection:
                await connection.execute("SELECT 1")
    assert not cluster.process.is_running
    assert [re.sub(r"after \d+\.\d s", "after _ s", record.message) for record in caplog.records] == [
        "PostgreSQL was ended by SIGKILL; starting it again",
        "PostgreSQL runs again, after _ s",
        "PostgreSQL was ended by SIGKILL; starting it again in 0.25 s",
        "PostgreSQL runs again, after _ s",
    ]


async def test_a_server_that_does_not_start_is_tried_again(
    tmp_path: Path, empty_cluster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy(empty_cluster, tmp_path / "postgres")
    cluster = Cluster(tmp_path / "postgres", programs.postgres())
    control = tmp_path / "postgres" / "data" / "global" / "pg_control"
    async with supervised(cluster) as supervisor:
        start = cluster.start

        async def start_and_repair() -> None:
            try:
                await start()
            except DatabaseError:
                control.with_name("hidden").rename(control)
                raise

        cluster.start = start_and_repair  # type: ignore[method-assign]
        control.rename(control.with_name("hidden"))
        restarted = supervisor.restarted
        os.kill(cluster.process.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            await restarted.wait()
    assert "did not start: PostgreSQL ended with exit code 2" in caplog.text
