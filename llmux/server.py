"""The web server under the gateway: how it is told to stop, and how its process ends.

An orderly stop refuses whoever waits and finishes whoever is served. Whatever hangs meanwhile, the process is gone
soon after: a native call that never returns would keep its thread, and so the process, and no supervisor would start
another.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn

log = logging.getLogger("llmux")

DEVICE_FAILED = os.EX_TEMPFAIL
"""The exit code (75) after the GPU failed under this process. A supervisor starts the next one."""

HUNG = os.EX_SOFTWARE
"""The exit code (70) of a stop that something native held up."""

_MARGIN_S = 5.0


class Server(uvicorn.Server):
    """Runs until it gets SIGTERM or SIGINT, or until `fail` is called.

    close: makes the gateway refuse new work at once
    stop_s: how long requests are served on, and then how long models get to be unloaded
    """

    def __init__(self, config: uvicorn.Config, close: Callable[[], None], *, stop_s: float) -> None:
        super().__init__(config)
        self._close = close
        self._limit_s = 2 * stop_s + _MARGIN_S
        self._code = HUNG

    def fail(self) -> None:
        """Stop, because the GPU failed under this process. On the event loop; the gateway has closed already."""
        self._code = DEVICE_FAILED
        self.should_exit = True
        self._end_in_time()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.started:
            asyncio.get_running_loop().call_soon_threadsafe(self._close)
        self._end_in_time()
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """After `run`: end the process with the code that says why it stopped."""
        if self._code == DEVICE_FAILED:  # Python's own end would call into the device once more, which aborts
            self._exit()
        if not self.started:
            raise SystemExit(1)

    def _end_in_time(self) -> None:
        deadline = threading.Timer(self._limit_s, self._cut_off)
        deadline.daemon = True
        deadline.start()

    def _cut_off(self) -> None:
        log.error("something native hangs: the process ends without it")
        self._exit()

    def _exit(self) -> None:
        logging.shutdown()
        os._exit(self._code)
