"""Prisma's query engine, which LiteLLM's client asks through a Unix socket: a server in JavaScript (engine/).

This process listens and the engine answers, so that whoever asks while there is no engine waits for the next one.
"""

import asyncio
import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM

import httpx

from database import programs
from database.environment import ENGINE
from database.errors import DatabaseError
from database.process import Process

START_S = 30.0
STOP_S = 5.0


class QueryEngine:
    """The engine over one database.

    url: of the database, which need not answer yet
    schema: LiteLLM's schema.prisma
    folder: where the socket is to be
    """

    name = "the query engine"

    def __init__(self, url: str, schema: Path, folder: Path) -> None:
        self._url = url
        self._schema = schema
        self._folder = os.open(folder, os.O_PATH)
        self._listener: socket.socket | None = None
        self._process: Process | None = None

    @property
    def socket_path(self) -> str:
        """Where it answers this user. Good in this process alone, but short: the path of a socket ends at 107 bytes."""
        return f"/proc/self/fd/{self._folder}/query-engine"

    @property
    def process(self) -> Process:
        """The one that was started last."""
        assert self._process is not None, "not started"
        return self._process

    async def start(self) -> None:
        """Start it and wait until it answers. Raises DatabaseError."""
        if self._listener is None:
            self._listener = self._listen()
        self._process = self._spawn(self._listener.fileno())
        await self._ready(self._process)

    def _spawn(self, listener: int) -> Process:
        child = subprocess.Popen(  # noqa: S603
            [programs.node(), ENGINE / "main.js", str(listener), self._schema],
            stdin=subprocess.PIPE,  # which ends when this process does, however that ends, and the engine with it
            pass_fds=[listener],
            env={**os.environ, "DATABASE_URL": self._url},
            start_new_session=True,  # Ctrl-C at the terminal is for LiteLLM, which then has spend to write
        )
        return Process(child.pid, child)

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        Path(self.socket_path).unlink(missing_ok=True)
        listener.bind(self.socket_path)
        Path(self.socket_path).chmod(0o600)
        listener.listen(socket.SOMAXCONN)
        return listener

    async def _ready(self, process: Process) -> None:
        asking = asyncio.create_task(self._ask())
        ending = asyncio.create_task(process.ended())
        await asyncio.wait([asking, ending], timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        is_ready, has_ended = asking.done(), ending.done()
        for task in (asking, ending):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if has_ended:
            raise DatabaseError(f"{self.name} {process.how_it_ended}; what it printed says why")
        if not is_ready:
            await process.stop(SIGKILL, limit_s=STOP_S)
            raise DatabaseError(f"{self.name} was not ready within {START_S:.0f} s")

    async def _ask(self) -> None:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=self.socket_path), timeout=None) as http:  # noqa: S113
            (await http.get("http://query-engine/status")).raise_for_status()

    async def stop(self) -> None:
        """Let it answer what it was asked, and stop it."""
        if self._process is not None:
            await self._process.stop(SIGTERM, SIGKILL, limit_s=STOP_S)
        self._close()

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            Path(self.socket_path).unlink(missing_ok=True)
        os.close(self._folder)
