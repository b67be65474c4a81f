"""A gateway in a process of its own, as users start it, with the configuration that a question needs."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_ROOT = Path(__file__).resolve().parent.parent
_START_S = 180
_STOP_S = 60


@contextmanager
def gateway(config: str) -> Iterator[httpx.Client]:
    """A client that holds its key. config: text of a litellm_config.yaml.

    Raises RuntimeError, with the end of its log, when it does not start.
    """
    key = f"sk-{secrets.token_hex(16)}"
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(config)
        log = folder / "log"
        port = _free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "llmux", "serve", "--config", str(folder / "config.yaml"), "--port", str(port)],
                cwd=_ROOT,
                env={**os.environ, "LLMUX_MASTER_KEY": key, "PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path])},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_healthy(url, process, log)
            with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=300) as client:
                yield client
        finally:
            process.terminate()
            process.wait(_STOP_S)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < end_s:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise RuntimeError(f"the gateway did not start:\n{tail}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
