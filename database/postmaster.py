"""The process that is a PostgreSQL server: found, waited for, told to stop.

It is watched through a pidfd: that wakes the event loop when the process ends, whether or not it is a child of this
one, and a signal sent through it cannot reach another process that was given the same id.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PidFile:
    """What postmaster.pid in a data folder says.

    status: starting, ready, standby or stopping; empty as long as the server has not said
    """

    pid: int
    socket_dir: Path
    status: str

    @classmethod
    def read(cls, data: Path) -> "PidFile | None":
        """None where there is none, or only the beginning of one."""
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return cls(int(lines[0]), Path(lines[4]), lines[7].strip() if len(lines) > 7 else "")
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def is_alive(self, data: Path) -> bool:
        """Whether the server that wrote this is running. Its id alone does not tell: it may be another's by now."""
        try:
            return Path(f"/proc/{self.pid}/cwd").samefile(data)
        except OSError:
            return False


def processes_in(data: Path) -> Iterator[int]:
    """The ids of the processes that work in a data folder: a server and its children, or those whom it left behind."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                if (path / "cwd").samefile(data):
                    yield int(path.name)


class Postmaster:
    """A PostgreSQL server that runs, or ran.

    Belongs to the event loop in which it was made. Raises ProcessLookupError where there is no such process.
    """

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._pidfd = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._child is not None:
            self._child.wait()
        self._ended.set()

    @property
    def is_running(self) -> bool:
        return not self._ended.is_set()

    @property
    def how_it_ended(self) -> str:
        """In words, as far as this process can know."""
        code = None if self._child is None else self._child.returncode
        if code is None:
            return "ended"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def ended(self) -> None:
        """Wait until it has ended."""
        await self._ended.wait()

    async def stop(self, limit_s: float) -> bool:
        """Roll back what is open and stop; after limit_s at once, which costs a recovery at the next start.

        False when even that did not help within limit_s.
        """
        for number in (signal.SIGINT, signal.SIGQUIT):
            if self.is_running:
                signal.pidfd_send_signal(self._pidfd, number)
            try:
                async with asyncio.timeout(limit_s):
                    await self._ended.wait()
                return True
            except TimeoutError:
                continue
        return False
