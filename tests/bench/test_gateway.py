"""What a process takes is read as the kernel counts it."""

import os
import subprocess
from pathlib import Path

import pytest

from bench.gateway import Gateway, cpu_s, resident_bytes
from llmux.config import load_config


@pytest.mark.parametrize("database", ["embedded", "none"])
def test_its_configuration_is_one_that_llmux_takes(tmp_path: Path, database: str) -> None:
    gateway = Gateway(tmp_path, "embedded" if database == "embedded" else "none")
    config = load_config(tmp_path / "litellm_config.yaml")
    assert config.settings.database == database
    assert config.state_dir == gateway.state_dir.resolve()


def test_the_time_of_a_processor_is_counted_in_seconds() -> None:
    before_s, kernels_s = cpu_s([os.getpid()]), sum(os.times()[:2])
    while cpu_s([os.getpid()]) - before_s < 0.05:
        pass
    assert 0 <= sum(os.times()[:2]) - kernels_s - 0.05 < 0.1


def test_memory_that_processes_share_is_counted_once() -> None:
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as one,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as two,
    ):
        alone, both = resident_bytes([one.pid]), resident_bytes([one.pid, two.pid])
        mapped = [line for line in Path(f"/proc/{one.pid}/smaps_rollup").read_text().splitlines() if "Rss" in line]
        assert alone < both
        assert both < 2 * 1024 * int(mapped[0].split()[1])


def test_a_log_is_counted_in_words(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "none")
    (tmp_path / "log").write_text("it runs again\nit runs again\n")
    assert gateway.count("runs again") == 2
    gateway.wait_until_it_says("runs again", 2)
