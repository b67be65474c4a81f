"""A real PostgreSQL for each test that asks for one: the wheel's in a folder of ours, and one of the system's."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from database import programs
from database.account import account
from database.client import client
from database.migrations import schema_file
from database.postgres import Cluster
from tests.gateway import free_port


def copy(folder: Path, to: Path) -> None:
    """With the owner of each file, which is PostgreSQL's own user where the tests run as root."""
    to.parent.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["cp", "-a", folder, to], check=True)


@pytest.fixture(scope="session")
def empty_cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cluster with nothing in it, to be copied: initdb takes longer than all else of most tests."""
    folder = tmp_path_factory.mktemp("empty") / "postgres"

    async def make() -> None:
        made = Cluster(folder, programs.postgres())
        await made.start()
        await made.stop()

    asyncio.run(make())
    return folder


@pytest.fixture(scope="session")
def litellms_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with LiteLLM's client in it, generated once."""
    folder = tmp_path_factory.mktemp("generated") / "client"
    asyncio.run(client(schema_file(), folder))
    return folder


@pytest.fixture
async def cluster(tmp_path: Path, empty_cluster: Path) -> AsyncIterator[Cluster]:
    """A cluster that runs, with nothing in it."""
    copy(empty_cluster, tmp_path / "postgres")
    made = Cluster(tmp_path / "postgres", programs.postgres())
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


@pytest.fixture(scope="session")
def system_binaries() -> Path:
    """The programs of the system's own PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian keeps them
    assert found, "these tests need a PostgreSQL of the system's: see tests/system-packages.txt"
    return found[-1]


@pytest.fixture(scope="session")
def system_postgres(system_binaries: Path) -> Iterator[str]:
    """The address, without a database's name, of a PostgreSQL that somebody else looks after, on TCP."""
    folder = Path(tempfile.mkdtemp(prefix="llmux-test-"))
    data, password, port = folder / "data", secrets.token_hex(8), free_port()
    (folder / "password").write_text(password)
    user = account(data)
    lent: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
    if user is not None:
        for path in (folder, folder / "password"):
            user.take(path)
    initial = ["--auth=scram-sha-256", "--username=somebody", f"--pwfile={folder / 'password'}", "-D", str(data)]
    subprocess.run(
        [system_binaries / "initdb", "--no-sync", *initial],
        check=True,
        capture_output=True,
        cwd=folder,
        **lent,
    )
    options = ["-c", f"port={port}", "-c", f"unix_socket_directories={folder}", "-c", "listen_addresses=127.0.0.1"]
    server = subprocess.Popen(
        [system_binaries / "postgres", "-D", data, *options, "-c", "fsync=off"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        **lent,
    )
    assert server.stderr is not None
    said: list[str] = []
    for line in iter(server.stderr.readline, ""):
        said.append(line)
        if "ready to accept connections" in line:
            break
    else:
        raise AssertionError("".join(said))
    try:
        yield f"postgresql://somebody:{password}@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.communicate(timeout=20)
        shutil.rmtree(folder)


@pytest.fixture
def new_database(system_postgres: str) -> Iterator[Callable[[], str]]:
    """Makes an empty database in the system's PostgreSQL and tells its address."""
    made: list[str] = []

    def make() -> str:
        made.append(f"litellm_{secrets.token_hex(4)}")
        with psycopg.connect(f"{system_postgres}/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{made[-1]}"'.encode())
        return f"{system_postgres}/{made[-1]}"

    yield make
    with psycopg.connect(f"{system_postgres}/postgres", autocommit=True) as connection:
        for name in made:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
