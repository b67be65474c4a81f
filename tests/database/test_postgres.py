"""A cluster of our own: made once, started, taken over, recovered, stopped."""

import os
import signal
import stat
from pathlib import Path

import psycopg
import pytest

from database import programs
from database.errors import DatabaseError
from database.postgres import SETTINGS, Cluster
from database.postmaster import PidFile, processes_in


async def say(cluster: Cluster, statement: str) -> object:
    async with await psycopg.AsyncConnection.connect(cluster.url, autocommit=True) as connection:
        answer = await connection.execute(statement.encode())
        return await answer.fetchone() if answer.description else None


def again(tmp_path: Path) -> Cluster:
    """Another start of the gateway, on the same folder."""
    return Cluster(tmp_path / "postgres", programs.postgres())


async def kill(cluster: Cluster) -> None:
    os.kill(cluster.process.pid, signal.SIGKILL)
    await cluster.process.ended()


async def test_it_answers_through_a_socket_and_to_its_password_alone(cluster: Cluster, tmp_path: Path) -> None:
    assert await say(cluster, "SELECT current_user, current_database()") == ("litellm", "litellm")
    assert await say(cluster, "SHOW listen_addresses") == ("",)
    password = (tmp_path / "postgres" / "password").read_text()
    assert len(password) >= 32
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await psycopg.AsyncConnection.connect(cluster.url.replace(password, "guess"))


async def test_nobody_else_can_read_what_it_keeps(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    for path in (folder, folder / "data", folder / "password", folder / "log"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    found = PidFile.read(folder / "data")
    assert found is not None
    assert stat.S_IMODE(found.socket_dir.stat().st_mode) == 0o700
    assert len(os.fsencode(found.socket_dir / ".s.PGSQL.5432")) <= 107


async def test_what_it_acknowledged_is_on_disk(cluster: Cluster) -> None:
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        assert await say(cluster, f"SHOW {name}") == ("on",)
    assert await say(cluster, "SHOW data_checksums") == ("on",)
    for name in SETTINGS:
        assert await say(cluster, f"SHOW {name}") is not None


async def test_its_log_holds_no_statement(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        await say(cluster, "SELECT 'sk-secret' FROM nowhere")
    said = (tmp_path / "postgres" / "log").read_text()
    assert "nowhere" in said
    assert "sk-secret" not in said


async def test_programs_that_its_user_cannot_reach_are_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "bin").symlink_to(programs.postgres())
    closed.chmod(0)
    try:
        with pytest.raises(DatabaseError, match=r"may not start the programs in .*closed/bin: chmod o\+x"):
            await Cluster(tmp_path / "postgres", closed / "bin").start()
    finally:
        closed.chmod(0o700)


async def test_a_second_start_finds_what_the_first_one_left(cluster: Cluster, tmp_path: Path) -> None:
    await say(cluster, "CREATE TABLE kept AS SELECT 7 AS seven")
    before = PidFile.read(tmp_path / "postgres" / "data")
    await cluster.stop()
    assert not cluster.process.is_running
    assert before is not None
    assert not before.socket_dir.exists()

    second = again(tmp_path)
    await second.start()
    assert await say(second, "SELECT seven FROM kept") == (7,)
    await second.stop()


async def test_a_server_that_outlived_its_gateway_is_taken_over(cluster: Cluster, tmp_path: Path) -> None:
    second = again(tmp_path)
    await second.start()
    assert second.process.pid == cluster.process.pid
    assert await say(second, "SELECT 1") == (1,)
    await second.stop()
    await cluster.process.ended()


async def test_a_killed_server_loses_nothing_that_was_acknowledged(cluster: Cluster, tmp_path: Path) -> None:
    await say(cluster, "CREATE TABLE kept AS SELECT 7 AS seven")
    await kill(cluster)
    assert (tmp_path / "postgres" / "data" / "postmaster.pid").exists()
    await cluster.start()
    assert await say(cluster, "SELECT seven FROM kept") == (7,)


async def test_the_children_of_a_killed_server_are_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    assert len(list(processes_in(data))) > 1
    await kill(cluster)
    await cluster.start()
    assert cluster.process.pid in processes_in(data)


async def test_the_pid_of_another_process_is_not_taken_for_a_server(cluster: Cluster, tmp_path: Path) -> None:
    await kill(cluster)
    pid_file = tmp_path / "postgres" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    await cluster.start()
    assert await say(cluster, "SELECT 1") == (1,)


async def test_a_cluster_whose_making_was_broken_off_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    cluster = again(tmp_path)
    await cluster.start()
    await cluster.stop()
    assert not half.exists()


async def test_the_data_of_another_version_is_refused_and_left_alone(
    cluster: Cluster, tmp_path: Path, system_binaries: Path
) -> None:
    await cluster.stop()
    other = Cluster(tmp_path / "postgres", system_binaries)
    with pytest.raises(DatabaseError, match=r"made by PostgreSQL 18 and this is PostgreSQL \d+, which cannot read it"):
        await other.start()


async def test_a_server_that_cannot_start_says_why(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.stop()
    (tmp_path / "postgres" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(DatabaseError, match=r"ended with exit code 2: .*pg_control"):
        await cluster.start()


async def test_stopping_what_never_started_is_nothing(tmp_path: Path) -> None:
    await again(tmp_path).stop()
