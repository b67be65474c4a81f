"""The gateway that a benchmark talks to, and what its processes take, as the kernel counts it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from bench.gateway import Gateway, cpu_s, gateway, resident_bytes, scripted
from llmux.config import load_config

CONFIG = """\
model_list:
  - {model_name: Voice, litellm_params: {model: llmux/hibari}}
llmux:
  budget: 1 GB
  database: none
  models:
    hibari: {task: tts, runtime: hibari, estimate: 100 MB}
"""


def test_it_is_there_for_as_long_as_it_is_needed_and_its_client_has_a_key() -> None:
    with gateway(CONFIG) as client:
        assert [model["id"] for model in client.get("/v1/models").raise_for_status().json()["data"]] == ["Voice"]
        url = client.base_url
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_one_that_does_not_start_says_why() -> None:
    misspelt = CONFIG.replace("runtime: hibari", "runtime: hibary")
    with pytest.raises(RuntimeError, match="Input should be"), gateway(misspelt):
        pass


@pytest.mark.parametrize("database", ["embedded", "none"])
def test_its_configuration_is_one_that_llmux_takes(tmp_path: Path, database: str) -> None:
    made = Gateway(tmp_path, scripted("embedded" if database == "embedded" else "none"))
    config = load_config(tmp_path / "litellm_config.yaml")
    assert config.settings.database == database
    assert config.state_dir == made.state_dir.resolve()


def test_the_time_of_a_processor_is_counted_in_seconds() -> None:
    before_s, kernels_s = cpu_s([os.getpid()]), sum(os.times()[:2])
    while cpu_s([os.getpid()]) - before_s < 0.05:
        pass
    assert sum(os.times()[:2]) - kernels_s == pytest.approx(0.05, abs=0.05)


def test_memory_that_processes_share_is_counted_once() -> None:
    with echo() as one, echo() as two:
        alone, both = resident_bytes([one.pid]), resident_bytes([one.pid, two.pid])
        mapped = [line for line in Path(f"/proc/{one.pid}/smaps_rollup").read_text().splitlines() if "Rss" in line]
        assert alone < both
        assert both < 2 * 1024 * int(mapped[0].split()[1])


@contextmanager
def echo() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs: it has said back what it was told."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdout.read(1)
        yield process


def test_a_log_is_counted_in_words(tmp_path: Path) -> None:
    made = Gateway(tmp_path, scripted("none"))
    (tmp_path / "log").write_text("it runs again\nit runs again\n")
    assert made.count("runs again") == 2
    made.wait_until_it_says("runs again", 2)
