"""A gateway to measure: the real one, in a process of its own, as users start it."""

import os
import platform
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx
import yaml

from bench.server import free_port
from llmux.litellm_settings import ENVIRONMENT

ROOT = Path(__file__).resolve().parent.parent
MASTER_KEY = f"sk-{secrets.token_hex(16)}"
MODEL = "scripted"

COST = 20 * 2.0**-16
"""Of one request, in dollars: 20 tokens at a price whose sums are exact in binary."""

FLUSH_S = 1
"""LiteLLM writes spend this often, and up to 5 s later: it adds a random number of seconds when it starts."""

Program = Literal["gateway", "engine", "PostgreSQL"]
NAMES: Mapping[str, Program] = {"query-engine": "engine", "postgres": "PostgreSQL"}

_START_S = 120
_STOP_S = 60


def scripted(database: Literal["embedded", "none"]) -> Mapping[str, object]:
    """A configuration with one model, whose answers LiteLLM itself makes up at once."""
    answers = {"model": f"openai/{MODEL}", "api_key": "none", "mock_response": "Good day."}
    return {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": answers,
                "model_info": {"input_cost_per_token": 0, "output_cost_per_token": COST / 20},
            }
        ],
        "general_settings": {"proxy_batch_write_at": FLUSH_S} if database == "embedded" else {},
        "llmux": {"budget": "1 GB", "models": {}, "database": database},
    }


def others_environment() -> Mapping[str, str]:
    """Of a server that is not llmux: as its users start it, without what llmux sets for its own."""
    return {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


class Gateway:
    """A gateway that can be started, killed and started again on the same state.

    folder: for its configuration, its state and its log
    """

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.state_dir = folder / "state"
        self._config = folder / "litellm_config.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._log = folder / "log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; the seconds until it answered."""
        began_s = time.monotonic()
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llmux", "serve", "--config", str(self._config), "--port", str(self._port)],
                cwd=ROOT,
                env={
                    **os.environ,
                    "LLMUX_MASTER_KEY": MASTER_KEY,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
                },
                stdout=output,
                stderr=output,
            )
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - began_s > _START_S:
                raise RuntimeError(f"the gateway did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.02)
        return time.monotonic() - began_s

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/health", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def http(self, key: str = MASTER_KEY) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
            trust_env=False,
        )

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {MASTER_KEY}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self._port}", headers=headers, timeout=300, trust_env=False)

    def kill(self, name: Program) -> None:
        """SIGKILL, and for the gateway wait until it is gone."""
        os.kill(self.programs()[name][0], signal.SIGKILL)
        if name == "gateway" and self._process is not None:
            self._process.wait()

    def count(self, words: str) -> int:
        """How often its log says this."""
        return self._log.read_text().count(words)

    def wait_until_it_says(self, words: str, times: int) -> None:
        while self.count(words) < times:
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask it to stop, as a supervisor does, and wait for its end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(_STOP_S)

    def programs(self) -> Mapping[Program, Sequence[int]]:
        """The ids of its processes, a server before its children."""
        assert self._process is not None
        found: dict[Program, list[int]] = {"gateway": [self._process.pid]}
        for pid in _descendants(self._process.pid):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name in NAMES:
                found.setdefault(NAMES[name], []).append(pid)
        return found


@contextmanager
def gateway(config: str) -> Iterator[httpx.Client]:
    """A client of a gateway, with its key. config: text of a litellm_config.yaml.

    Raises RuntimeError, with the end of its log, when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        started = Gateway(Path(folder), yaml.safe_load(config))
        started.start()
        try:
            with started.client() as client:
                yield client
        finally:
            started.stop()


def cpu_s(pids: Iterable[int]) -> float:
    """The processor's time that these have taken so far, by themselves and in the kernel."""
    ticks = sum(int(tick) for pid in pids for tick in _stat(pid)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> Sequence[str]:
    """The fields of /proc/PID/stat from the third on: the second, a name, may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def resident_bytes(pids: Iterable[int]) -> int:
    """The memory of these. What several of them share is counted once."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(1024 * int(size) for rollup in rollups for size in re.findall(r"(?m)^Pss: +(\d+) kB", rollup))


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))
