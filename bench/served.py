"""The gateway as users start it, for as long as a measurement takes."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_START_S = 180


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key = f"sk-{secrets.token_hex(16)}"
    with (config.parent / "gateway.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmux", "serve", "--config", config, "--port", str(port)],
            env={**os.environ, "LLMUX_MASTER_KEY": key},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        gateway = Served(f"http://127.0.0.1:{port}", key, process.pid)
        _wait(gateway, process)
        yield gateway
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(gateway: Served, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until_s:
        try:
            httpx.get(f"{gateway.url}/health").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit("the gateway did not start; gateway.log beside its configuration says why")
