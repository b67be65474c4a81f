"""What postmaster.pid says, and whether it is still true."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from database.postmaster import PidFile, Postmaster, processes_in


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works in a data folder, until it is told to stop."""
    with subprocess.Popen(["cat"], cwd=tmp_path, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def pid_file(data: Path, pid: int, *rest: str) -> None:
    data.joinpath("postmaster.pid").write_text("\n".join([str(pid), str(data), "1700000000", "5432", *rest]) + "\n")


def test_it_names_process_socket_and_status(tmp_path: Path) -> None:
    pid_file(tmp_path, 42, "/run/pg", "", "  2187728  4", "ready   ")
    assert PidFile.read(tmp_path) == PidFile(42, Path("/run/pg"), "ready")


def test_a_server_that_is_starting_has_not_said_much_yet(tmp_path: Path) -> None:
    assert PidFile.read(tmp_path) is None
    (tmp_path / "postmaster.pid").write_text("42\n")
    assert PidFile.read(tmp_path) is None
    pid_file(tmp_path, 42, "/run/pg")
    assert PidFile.read(tmp_path) == PidFile(42, Path("/run/pg"), "")


def test_a_process_is_the_server_when_it_works_in_the_data_folder(
    tmp_path: Path, server: subprocess.Popen[bytes]
) -> None:
    assert PidFile(server.pid, tmp_path, "ready").is_alive(tmp_path)
    assert not PidFile(os.getpid(), tmp_path, "ready").is_alive(tmp_path)
    assert list(processes_in(tmp_path)) == [server.pid]


async def test_the_end_of_a_process_is_noticed_and_told(tmp_path: Path, server: subprocess.Popen[bytes]) -> None:
    child, stranger = Postmaster(server.pid, server), Postmaster(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.gather(child.ended(), stranger.ended())
    assert not child.is_running
    assert child.how_it_ended == "was ended by SIGKILL"
    assert stranger.how_it_ended == "ended"


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ignores SIGINT."""
    command = ["sh", "-c", "trap '' INT; echo; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


async def test_what_does_not_stop_when_asked_is_asked_harder(stubborn: subprocess.Popen[bytes]) -> None:
    asked = Postmaster(stubborn.pid, stubborn)
    assert await asked.stop(limit_s=0.05)
    assert asked.how_it_ended == "was ended by SIGQUIT"


async def test_what_stops_when_asked_is_not_asked_twice(server: subprocess.Popen[bytes]) -> None:
    asked = Postmaster(server.pid, server)
    assert await asked.stop(limit_s=10)
    assert asked.how_it_ended == "was ended by SIGINT"
    assert await asked.stop(limit_s=10), "and stopping it again is nothing"
