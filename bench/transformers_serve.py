"""`transformers serve` on a folder of safetensors, in a process of its own, as its users start it."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.gateway import others_environment

_BLOCK = 32
"""Tokens of a block of its cache. Its own default of 256 leaves no room for many streams in a bounded cache."""

_START_S = 300
_STOP_S = 30


@contextmanager
def serving(folder: Path, *, batching: bool, cache_tokens: int = 16_384) -> Iterator[tuple[str, str]]:
    """Its address, and the model's name there. batching: with its continuous batching, in a cache of so many tokens:
    left alone, it takes most of the memory there is. Raises RuntimeError, with the end of its log, when it does not
    start.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        model = _with_architecture(folder, Path(name) / "model")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
        if batching:
            command += ["--continuous-batching", "--cb-block-size", str(_BLOCK)]
            command += ["--cb-num-blocks", str(cache_tokens // _BLOCK)]
        log = Path(name) / "log"
        with log.open("wb") as output:
            environment = {**others_environment(), "HF_HUB_OFFLINE": "1"}
            server = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, server, log)
            yield address, str(model)
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _with_architecture(folder: Path, target: Path) -> Path:
    """It picks the class by a name in config.json, which a checkpoint may do without."""
    target.mkdir()
    for path in folder.iterdir():
        if path.name != "config.json":
            (target / path.name).symlink_to(path.resolve())
    config = json.loads((folder / "config.json").read_text())
    if not config.get("architectures"):
        config["architectures"] = ["LlamaForCausalLM"]
    (target / "config.json").write_text(json.dumps(config))
    return target


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + _START_S
    while True:
        try:
            if httpx.get(f"{address}/health", timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        if server.poll() is not None or time.monotonic() > until_s:
            raise RuntimeError(f"transformers serve did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)
