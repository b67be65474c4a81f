"""An own PostgreSQL cluster in a folder, reached through a Unix socket only.

    folder/data        the cluster
    folder/password    of its one role, made by chance
    folder/log         what the server says

Only the socket lies elsewhere, because the path of one ends at 107 bytes.
"""

import asyncio
import logging
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGINT, SIGQUIT
from typing import Any, BinaryIO
from urllib.parse import quote

import psycopg
from psycopg import sql

from database.account import Account, account
from database.errors import DatabaseError
from database.files import make_short_folder, write_private
from database.postmaster import PidFile, processes_in
from database.process import Process
from database.programs import major_version

ROLE = "litellm"
DATABASE = "litellm"

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    # Small, for a machine that has better use for its memory.
    "shared_buffers": "64MB",
    "max_connections": "50",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "jit": "off",
    # Nobody replicates it.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    # What was acknowledged survives a power cut.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # After a crash: its 1,800 files one by one would take seconds on a busy disk.
    "recovery_init_sync_method": "syncfs",
    # The log is for the server's own troubles: no statement, and no value of one, belongs in it.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
"""Given at every start, so that they win over postgresql.conf."""

_STOP = (SIGINT, SIGQUIT)
"""Roll back what is open and stop; or else at once, which costs a recovery at the next start."""

START_S = 120.0
"""How long a start may take, with the replay of what a crash left."""

STOP_S = 20.0
_ORPHANS_S = 10.0
_LOG_BYTES = 5_000_000
_PREFIX = "postgres-"

log = logging.getLogger(__name__)


class Cluster:
    """A PostgreSQL cluster and its server.

    folder: where it lives; made when missing
    binaries: the folder of a PostgreSQL's programs
    """

    name = "PostgreSQL"

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._binaries = binaries
        self._process: Process | None = None
        self._socket_dir: Path | None = None

    @property
    def url(self) -> str:
        """The address of LiteLLM's database, with the password in it. Only while the server runs."""
        assert self._socket_dir is not None, "not started"
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        password = (self._folder / "password").read_text(encoding="utf-8").strip()
        # The folder stands where a host would: libpq, node's pg and LiteLLM all leave it there.
        return f"postgresql://{ROLE}:{quote(password, safe='')}@{quote(str(self._socket_dir), safe='')}/{database}"

    @property
    def process(self) -> Process:
        """The server that was started last."""
        assert self._process is not None, "not started"
        return self._process

    async def start(self) -> None:
        """Start the server and wait until it takes connections; make the cluster first where there is none.

        A server that already runs, because whoever started it was killed, is taken over. Raises DatabaseError.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._data.exists():
            await self._create()
        self._check_version()
        self._process = await self._adopt() or self._spawn()
        await self._ready(self._process)
        await self._ensure_database()

    async def stop(self) -> None:
        """Stop the server in order."""
        if self._process is not None and not await self._process.stop(*_STOP, limit_s=STOP_S):
            log.error("PostgreSQL (process %d) does not stop", self._process.pid)
            return
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None

    async def _create(self) -> None:
        """Under another name first, so that a cluster is there whole or not at all."""
        log.info("making a PostgreSQL cluster, once")
        fresh = self._folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        user = account(self._data)
        password = secrets.token_urlsafe(32)
        passing = make_short_folder(_PREFIX)
        try:
            handed_over = passing / "password"
            write_private(handed_over, password)
            if user is not None:
                for path in (fresh, passing, handed_over):
                    user.take(path)
            command = [
                str(self._binaries / "initdb"), "-D", self._data_argument(fresh, user), f"--username={ROLE}",
                "--auth=scram-sha-256", f"--pwfile={handed_over}", "--encoding=UTF8", "--locale=C",
                "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
            ]  # fmt: skip
            # In a thread: uvloop's processes cannot be another user's.
            with self._startable(user):
                done = await asyncio.to_thread(self._run, command, self._as_user(fresh, user))
        finally:
            shutil.rmtree(passing)
        if done.returncode != 0:
            raise DatabaseError(f"initdb could not make a cluster in {self._folder}: {done.stderr.decode().strip()}")
        write_private(self._folder / "password", password)
        fresh.rename(self._data)

    @staticmethod
    def _run(command: list[str], lent: dict[str, Any]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, **lent)  # noqa: S603

    def _check_version(self) -> None:
        has = (self._data / "PG_VERSION").read_text(encoding="utf-8").strip()
        runs = major_version(self._binaries)
        if has != runs:
            raise DatabaseError(
                f"{self._data} was made by PostgreSQL {has} and this is PostgreSQL {runs}, which cannot read it: "
                f"dump it with version {has} and restore it into a new cluster, or move the folder away to start afresh"
            )

    async def _adopt(self) -> Process | None:
        """The server that runs in this folder already, if one does."""
        found = PidFile.read(self._data)
        if found is None:
            return None
        try:
            process = Process(found.pid) if found.is_alive(self._data) else None
        except ProcessLookupError:
            process = None
        if process is not None and not found.status.startswith("stopping"):
            log.info("PostgreSQL already runs (process %d); taking it over", process.pid)
            self._socket_dir = found.socket_dir
            return process
        await self._wait_for_orphans()
        if found.socket_dir != self._socket_dir and found.socket_dir.name.startswith(_PREFIX):
            shutil.rmtree(found.socket_dir, ignore_errors=True)
        # Its id may be another process's by now, and PostgreSQL would take that one for itself.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        return None

    async def _wait_for_orphans(self) -> None:
        """A killed server's children end by themselves, but until then a new one would not start."""
        for pid in processes_in(self._data):
            with suppress(ProcessLookupError):
                if not await Process(pid).ended(_ORPHANS_S):
                    raise DatabaseError(
                        f"a process that an earlier PostgreSQL left behind ({pid}) still works in {self._data}: end it"
                    )

    def _spawn(self) -> Process:
        user = account(self._data)
        if self._socket_dir is None:
            self._socket_dir = make_short_folder(_PREFIX)
        else:  # of a server that ended: whoever uses the database knows this address
            for left in self._socket_dir.iterdir():
                left.unlink()
        if user is not None:
            user.take(self._socket_dir)
        settings = SETTINGS | {"unix_socket_directories": str(self._socket_dir)}
        options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        with self._open_log() as output, self._startable(user):
            child = subprocess.Popen(  # noqa: S603
                [self._binaries / "postgres", "-D", self._data_argument(self._data, user), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C at the terminal is for whoever uses the database, and first for them
                **self._as_user(self._data, user),
            )
        return Process(child.pid, child)

    async def _ready(self, process: Process) -> None:
        pause_s = 0.005
        deadline_s = asyncio.get_running_loop().time() + START_S
        while process.is_running and asyncio.get_running_loop().time() < deadline_s:
            said = PidFile.read(self._data)
            if said is not None and said.pid == process.pid and said.status == "ready":
                return
            if not await process.ended(pause_s):
                pause_s = min(pause_s * 2, 0.1)
        if process.is_running:
            await process.stop(*_STOP, limit_s=STOP_S)
            raise DatabaseError(f"PostgreSQL was not ready within {START_S:.0f} s; see {self._folder.name}/log")
        raise DatabaseError(f"PostgreSQL {process.how_it_ended}: {self._last_words()}")

    async def _ensure_database(self) -> None:
        try:
            async with await psycopg.AsyncConnection.connect(self._url("postgres"), autocommit=True) as connection:
                found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if await found.fetchone() is None:
                    await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.OperationalError as error:
            raise DatabaseError(f"PostgreSQL runs but refuses the connection: {error}") from None

    def _open_log(self) -> BinaryIO:
        path = self._folder / "log"
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_name("log.old"))
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")

    def _last_words(self) -> str:
        lines = (self._folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        grave = [line.partition("FATAL:")[2].strip() for line in lines[-20:] if "FATAL:" in line]
        return f"{(grave or lines or ['it said nothing'])[-1]} (in {self._folder.name}/log)"

    @contextmanager
    def _startable(self, user: Account | None) -> Iterator[None]:
        """Raises DatabaseError where whoever PostgreSQL runs as cannot reach its programs."""
        try:
            yield
        except PermissionError:
            who = "this user" if user is None else f"the user {user.name}, which PostgreSQL runs as,"
            raise DatabaseError(
                f"{who} may not start the programs in {self._binaries}: "
                "chmod o+x the folders above it, or install llmux where every user may go"
            ) from None

    @staticmethod
    def _data_argument(data: Path, user: Account | None) -> str:
        """Another user need not be able to reach the folder by its path: it is started inside."""
        return str(data) if user is None else "/proc/self/cwd"

    @staticmethod
    def _as_user(data: Path, user: Account | None) -> dict[str, Any]:
        """How to start a program inside a data folder, with nothing of this process's environment."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        lent: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
        return {"cwd": data, "env": environment, **lent}
