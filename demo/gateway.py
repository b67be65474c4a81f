"""The gateway that the demo talks to: `python -m llmux serve`, as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
CONFIG = Path("demo", "litellm_config.yaml")
LOG = Path("state", "demo", "gateway.log")

_START_S = 180
_STOP_S = 60


class GatewayFailed(Exception):
    """The gateway did not start, or ended. The message holds the end of its log."""


class Gateway:
    """A running gateway.

    key: its master key, handed over in the environment and written nowhere
    """

    def __init__(self, port: int, key: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        log = ROOT / LOG
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "llmux", "serve", "--config", str(CONFIG), "--port", str(port)],
                cwd=ROOT,
                env=gateway_environment(os.environ, key),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_until_healthy(self, waiting: Callable[[float], None]) -> None:
        """Return when GET /health answers. waiting: told the seconds so far, several times a second.

        Raises GatewayFailed.
        """
        began_s = time.monotonic()
        while True:
            waited_s = time.monotonic() - began_s
            waiting(waited_s)
            if self._process.poll() is not None:
                raise GatewayFailed(f"the gateway ended while starting. {log_tail()}")
            if waited_s > _START_S:
                raise GatewayFailed(f"the gateway does not answer after {_START_S} s. {log_tail()}")
            try:
                self.health()
            except httpx.HTTPError:
                time.sleep(0.2)
            else:
                return

    def health(self) -> Mapping[str, Any]:
        """What GET /health says: loaded_models with type and vram_gb, and available_vram_gb."""
        answer = httpx.get(f"{self.url}/health", timeout=5)
        return dict(answer.raise_for_status().json())

    def wait(self) -> None:
        """Until it ends, which it does not by itself. Raises GatewayFailed when it does."""
        code = self._process.wait()
        raise GatewayFailed(f"the gateway ended with code {code}. {log_tail()}")

    def stop(self) -> int:
        """Ask it to stop as a supervisor does, and return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def gateway_environment(environment: Mapping[str, str], key: str) -> dict[str, str]:
    """The gateway's environment: the key, and no GPU, because the demo's sizes are those of the CPU."""
    kept = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "LLMUX_MASTER_KEY": key, "CUDA_VISIBLE_DEVICES": ""}


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 at this port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def log_tail(lines: int = 20) -> str:
    """The end of the gateway's log, with where to read the rest."""
    path = ROOT / LOG
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join([f"The end of {LOG}:", *text.splitlines()[-lines:]])
