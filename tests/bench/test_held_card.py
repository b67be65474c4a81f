"""The process that holds the rest of the card. There is none here: torch.cuda is played, the process is a real one."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import held_card
from bench.held_card import CannotHold, chunks, hold_all_but

PAGE = 2 * 2**20

PLAYED = """
import torch, sys
allocated = 0
free = 140 * 10**9
class Cuda:
    def init(self): pass
    def mem_get_info(self): return free - allocated, free
def empty(size, **how):
    global allocated
    assert how["device"] == "cuda"
    allocated += size if "dtype" in how else 2 * 2**20
torch.cuda, torch.empty = Cuda(), empty
from bench.held_card import main
main(int(sys.argv[-1]))
"""


@given(st.integers(0, 200 * 10**9), st.integers(0, 200 * 10**9))
def test_what_is_to_stay_free_stays_free_and_hardly_more(free_bytes: int, keep_bytes: int) -> None:
    held = chunks(free_bytes, keep_bytes)
    assert all(size % PAGE == 0 and size > 0 for size in held)
    left = free_bytes - sum(held)
    assert min(free_bytes, keep_bytes) <= left < max(min(free_bytes, keep_bytes) + PAGE, keep_bytes + PAGE)


def test_another_process_holds_the_rest_as_long_as_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[str]] = []

    def played(command: list[str], **how: Any) -> subprocess.Popen[str]:
        child = popen([sys.executable, "-c", PLAYED, command[-1]], **how)
        children.append(child)
        return child

    popen = subprocess.Popen
    monkeypatch.setattr("bench.held_card.subprocess.Popen", played)
    with hold_all_but(16 * 10**9) as free_bytes:
        assert 16 * 10**9 <= free_bytes < 16 * 10**9 + PAGE
        assert children[0].poll() is None
    assert children[0].returncode == 0


def test_a_process_that_finds_no_gpu_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it finds its module from anywhere
    with pytest.raises(CannotHold, match=r"CUDA|NVIDIA"), hold_all_but(16 * 10**9):
        pass


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_card, "_START_S", 0.0)
    started_s = time.monotonic()
    with pytest.raises(CannotHold, match="nothing"), hold_all_but(16 * 10**9):
        pass
    assert time.monotonic() - started_s < 30
