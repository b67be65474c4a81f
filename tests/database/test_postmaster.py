"""What postmaster.pid says, and whether it is still true."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from database.postmaster import PidFile, processes_in


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
