"""The gateway as users start it, for as long as a measurement takes."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.server import free_port, running


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that answers. key: its master key; pid: its process"""

    url: str
    key: str
    pid: int

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=3600)

    def peak_bytes(self) -> int:
        """The most memory that the process has held so far, or since forget_peak()."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def served(config: Path) -> Iterator[Served]:
    """Its log is beside its configuration."""
    key = f"sk-{secrets.token_hex(16)}"
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "llmux", "serve", "--config", str(config), "--port", str(port)]
    environment = {**os.environ, "LLMUX_MASTER_KEY": key}
    log = config.with_name("gateway.log")
    with running(command, ready=f"{url}/health", log=log, environment=environment) as process:
        yield Served(url, key, process.pid)
