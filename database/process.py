"""A process: watched, told to stop, and how it ended.

It is watched through a pidfd: that wakes the event loop when the process ends, whether or not it is a child of this
one, and a signal sent through it cannot reach another process that was given the same id.
"""

import asyncio
import os
import signal
import subprocess


class Process:
    """A process that runs, or ran.

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
            if self._child.stdin is not None:
                self._child.stdin.close()
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

    async def ended(self, within_s: float | None = None) -> bool:
        """Wait until it has ended, or for so long; whether it has."""
        try:
            async with asyncio.timeout(within_s):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self, *signals: signal.Signals, limit_s: float) -> bool:
        """Send the first signal, and each of the others where the one before did not end it within limit_s.

        False when even the last one did not.
        """
        for number in signals:
            if self.is_running:
                signal.pidfd_send_signal(self._pidfd, number)
            if await self.ended(limit_s):
                return True
        return False
