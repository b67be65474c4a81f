import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy" / "Containerfile"


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert hadolint is not None
    done = subprocess.run([hadolint, "--no-color", str(CONTAINERFILE)], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""


def test_what_it_copies_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE.read_text(), re.MULTILINE)
    assert copied
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()


def test_its_cuda_is_the_one_that_torch_brings() -> None:
    base = re.search(r"^ARG BASE=\S+/cuda:(\d+\.\d+)", CONTAINERFILE.read_text(), re.MULTILINE)
    pinned = re.search(r"^cuda-toolkit==(\d+\.\d+)", (ROOT / "requirements" / "cuda.txt").read_text(), re.MULTILINE)
    assert base is not None
    assert pinned is not None
    assert base[1] == pinned[1]


def test_it_runs_as_nobody_special_and_holds_no_secret() -> None:
    text = CONTAINERFILE.read_text()
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["1000:1000"]
    assert not re.search(r"TOKEN|PASSWORD|MASTER_KEY", text)
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    assert {".git", ".venv", "/models", "/state"} <= set(ignored)
