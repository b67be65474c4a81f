"""`transformers serve` on a folder of safetensors, in a process of its own, as its users start it."""

import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.gateway import others_environment
from bench.server import free_port, running

_BLOCK = 32
"""Tokens of a block of its cache. Its own default of 256 leaves no room for many streams in a bounded cache."""


@contextmanager
def serving(folder: Path, *, batching: bool, cache_tokens: int = 16_384) -> Iterator[tuple[str, str]]:
    """Its address, and the model's name there. batching: with its continuous batching, in a cache of so many tokens:
    left alone, it takes most of the memory there is. Raises RuntimeError, with the end of its log, when it does not
    start.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        model = _with_architecture(folder, Path(name) / "model")
        port = free_port()
        command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
        if batching:
            command += ["--continuous-batching", "--cb-block-size", str(_BLOCK)]
            command += ["--cb-num-blocks", str(cache_tokens // _BLOCK)]
        address = f"http://127.0.0.1:{port}"
        environment = {**others_environment(), "HF_HUB_OFFLINE": "1"}
        log = Path(name) / "log"
        with running(command, ready=f"{address}/health", log=log, environment=environment, stop=signal.SIGINT):
            yield address, str(model)


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
