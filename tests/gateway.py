"""Starts the real gateway as users do: `python -m llmux serve`, in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai

ROOT = Path(__file__).parents[1]
MASTER_KEY = "sk-master-key-of-the-end-to-end-test"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(holds: Callable[[], bool], within_s: float = 30) -> None:
    """Asks again until it holds: what a client sees of another process's state has no other signal."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.05)


class Gateway:
    """A gateway in a process of its own, ready once this is made. `log` holds what it wrote.

    module: what Python is told to run
    """

    def __init__(self, config: Path, *, module: str = "llmux", port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log: list[str] = []
        self._module = module
        self._config = config
        self.start()

    def start(self) -> None:
        """Again, where it was stopped; ready when this returns."""
        self._ready = threading.Event()
        environment = {
            **os.environ,
            "LLMUX_MASTER_KEY": MASTER_KEY,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", self._module, "serve", "--config", str(self._config), "--port", str(self.port)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(timeout=180) or self.process.poll() is not None:
            self.stop()
            raise AssertionError("the gateway did not start:\n" + "".join(self.log))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if "Uvicorn running on" in line:
                self._ready.set()
        self._ready.set()

    def openai(self, key: str = MASTER_KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=300)

    def http(self, key: str | None = MASTER_KEY) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=300)

    def vram(self) -> dict[str, Any]:
        with self.http() as client:
            return dict(client.get("/vram").json())

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> int:
        """Ask it to stop as a supervisor does, and wait. Returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code
