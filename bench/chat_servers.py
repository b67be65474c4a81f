"""Who else serves a GGUF file: xllamacpp's server, which is llama.cpp's own, and llama-cpp-python's.

What they need beside this project's packages goes into environments of their own, which are thrown away.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.gateway import others_environment
from bench.server import free_port, running

XLLAMACPP = "xllamacpp==2026.10.11549"
STARLETTE_CONTEXT = "starlette-context==0.3.6"

_XLLAMACPP = """\
import json, os, signal, sys
import xllamacpp

asked = json.loads(sys.argv[1])
given = xllamacpp.CommonParams()
given.model.path = asked["file"]
given.n_ctx, given.n_parallel = asked["context"] * asked["slots"], asked["slots"]
given.n_batch = given.n_ubatch = asked["batch"]
given.cpuparams.n_threads = given.cpuparams_batch.n_threads = asked["threads"]
given.port = int(sys.argv[2])
server = xllamacpp.Server(given)
signal.pause()
"""
"""The rest is its own choice: its caches, and whether it lays out weights anew."""


@dataclass(frozen=True, slots=True)
class Load:
    """What all of them are given. context: tokens of each slot; batch: tokens of one step"""

    file: str
    context: int
    slots: int
    batch: int
    threads: int


@contextmanager
def xllamacpp(load: Load) -> Iterator[str]:
    """The address of its server."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        python = Path(folder) / "venv" / "bin" / "python"
        _run([*_uv(), "venv", "--quiet", "--python", sys.executable, str(python.parent.parent)])
        _run([*_uv(), "pip", "install", "--quiet", "--python", str(python), XLLAMACPP])
        port = free_port()
        command = [str(python), "-c", _XLLAMACPP, json.dumps(asdict(load)), str(port)]
        with _serving(command, {}, port, Path(folder) / "log") as address:
            yield address


@contextmanager
def llama_cpp_python(load: Load) -> Iterator[str]:
    """The address of its server, which computes one answer at a time, in the order of arrival."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _run([*_uv(), "pip", "install", "--quiet", "--no-deps", "--target", f"{folder}/packages", STARLETTE_CONTEXT])
        port = free_port()
        options = {
            "model": load.file,
            "n_ctx": load.context,
            "n_batch": load.batch,
            "n_threads": load.threads,
            "n_threads_batch": load.threads,
            "interrupt_requests": False,
            "port": port,
        }
        command = [sys.executable, "-m", "llama_cpp.server"]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        paths = {"PYTHONPATH": os.pathsep.join([f"{folder}/packages", *sys.path])}
        with _serving(command, paths, port, Path(folder) / "log") as address:
            yield address


def _uv() -> Sequence[str]:
    return [str(Path(sys.executable).parent / "uv")]


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)


@contextmanager
def _serving(command: Sequence[str], more: Mapping[str, str], port: int, log: Path) -> Iterator[str]:
    address = f"http://127.0.0.1:{port}"
    environment = {**others_environment(), **more}
    with running(command, ready=f"{address}/v1/models", log=log, environment=environment):
        yield address
