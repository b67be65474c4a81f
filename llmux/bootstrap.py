"""Makes .venv: the pinned packages, and llama.cpp built for this machine.

Runs on the system's Python before anything is installed, so it needs the standard library alone. Each step leaves a
stamp of what went into it and is skipped while that stays the same. A step that was begun and never finished may
have left half a package behind; the environment is then made again, from the caches, in seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements"

_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Step:
    """One thing to do, once.

    inputs: everything that decides what it does; when they change it is done again
    """

    name: str
    about: str
    inputs: Sequence[str]
    run: Callable[[], None]

    @property
    def stamp(self) -> str:
        return hashlib.sha256("\0".join([self.name, *self.inputs]).encode()).hexdigest()


class Stamps:
    """Which steps were done in an environment, and whether one was broken off."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_done(self, step: Step) -> bool:
        path = self._folder / step.name
        return path.is_file() and path.read_text() == step.stamp

    @property
    def broken_off(self) -> bool:
        return (self._folder / "begun").exists()

    def begin(self, step: Step) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "begun").write_text(step.name)

    def finish(self, step: Step) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)  # the step that makes the environment empties it first
        (self._folder / step.name).write_text(step.stamp)
        (self._folder / "begun").unlink(missing_ok=True)


def missing(
    version: tuple[int, int], has_module: Callable[[str], bool], which: Callable[[str], str | None], compiler: str
) -> list[str]:
    """What this machine lacks, in words; empty when set-up can begin. compiler: $CXX, or empty."""
    found = []
    if version < _OLDEST_PYTHON:
        wanted = ".".join(map(str, _OLDEST_PYTHON))
        found.append(f"Python {wanted} or newer (this is {version[0]}.{version[1]}); name one with `make PYTHON=...`")
    if not (has_module("venv") and has_module("ensurepip")):
        found.append("Python's venv module with ensurepip")
    if not any(which(name) for name in ([compiler.split()[0]] if compiler.strip() else ["c++", "g++", "clang++"])):
        found.append("a C++ compiler")
    if not which("make"):
        found.append("make")
    return found


def advice(lacking: Sequence[str]) -> str:
    """What to tell the person at the terminal."""
    return "\n".join(
        [
            "llmux cannot be set up yet. Missing:",
            *(f"  - {thing}" for thing in lacking),
            "On Debian or Ubuntu:  sudo apt-get install python3 python3-venv g++ make",
            "On Fedora:            sudo dnf install python3 gcc-c++ make",
        ]
    )


def llama_settings(*, gpu: bool, nvcc: bool, flags: Mapping[str, str]) -> list[str]:
    """How llama.cpp is built. Its own tools and server are left out, which saves most of the time.

    Two things that some processors have are left alone. Where they can compute in 16 bits, llama.cpp takes 128 numbers
    at a time and what is less one by one, such as a head of attention that is 64 wide (docs/measurements.md). And its
    code for AMX crashes as GCC 12 compiles it.

    flags: the environment, whose CFLAGS and CXXFLAGS go along
    """
    settings = ["build.targets=llama;llama-common;mtmd"]
    for language, variable in (("C", "CFLAGS"), ("CXX", "CXXFLAGS")):
        given = f"{flags.get(variable, '')} -U__AVX512FP16__ -U__AMX_INT8__".strip()
        settings.append(f"cmake.define.CMAKE_{language}_FLAGS={given}")
    if gpu and nvcc:
        settings.append("cmake.define.GGML_CUDA=ON")
    return settings


def installer_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv, which does not read pip's variables: the user's index and folders of wheels go along."""
    result = dict(environment)
    for theirs, ours in (
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("PIP_FIND_LINKS", "UV_FIND_LINKS"),
        ("PIP_CERT", "SSL_CERT_FILE"),
    ):
        if environment.get(theirs) and ours not in environment:
            result[ours] = ",".join(environment[theirs].split()) if ours == "UV_FIND_LINKS" else environment[theirs]
    return result


def holds_torch(folders: Sequence[str]) -> bool:
    """Whether one of the user's own folders of wheels has a build of torch, such as the CPU's.

    The hashes in torch.txt are those of the registry's builds; what lies in the user's folder is the user's choice.
    """
    return any(any(Path(folder).glob("torch-*+*.whl")) for folder in folders)


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _has_nvcc() -> bool:
    return shutil.which(os.environ.get("CUDACXX", "nvcc")) is not None


def steps() -> list[Step]:
    """All of set-up, in order."""
    python = f"{sys.version} {sys.base_prefix}"  # the same from inside .venv
    settings = llama_settings(gpu=_has_gpu(), nvcc=_has_nvcc(), flags=os.environ)
    texts = {
        name: (REQUIREMENTS / f"{name}.txt").read_text()
        for name in ("uv", "torch", "cuda", "runtime", "speech", "dev", "llama")
    }
    packages = [texts["runtime"], texts["speech"], texts["dev"]]
    engine = (ROOT / "database" / "engine" / "package-lock.json").read_text()
    about_llama = "llama.cpp, built here the first time (minutes; kept in uv's cache for every checkout)"
    return [
        Step("environment", "an environment in .venv", [python], _make_environment),
        Step("uv", "uv, which installs the rest", [texts["uv"]], _install_uv),
        Step("torch", "torch", [texts["torch"], texts["cuda"]], _install_torch),
        Step("packages", "the other packages", packages, _install_packages),
        Step("torchaudio", "torchaudio, fitted to torch", [texts["torch"], *packages], _fit_torchaudio),
        Step("llama", about_llama, [texts["llama"], *settings], lambda: _install_llama(settings)),
        Step("engine", "the database's engine", [engine], _install_engine),
        Step("bytecode", "bytecode, so that the gateway starts fast", list(texts.values()), _compile_bytecode),
    ]


def _make_environment() -> None:
    import venv

    venv.create(VENV, clear=True, with_pip=True, symlinks=True)


def _install_uv() -> None:
    _run(VENV / "bin" / "python", "-m", "pip", "install", "-qq", "--require-hashes", "-r", REQUIREMENTS / "uv.txt")


def _install_torch() -> None:
    # What torch brings is pinned, but whether it brings CUDA is left to the wheel that is found.
    own = holds_torch(os.environ.get("PIP_FIND_LINKS", "").split())
    wanted = REQUIREMENTS / ("torch.in" if own else "torch.txt")
    _uv_install("--only-binary", ":all:", "--constraints", REQUIREMENTS / "cuda.txt", "-r", wanted)


def _install_packages() -> None:
    _uv_install(
        "--only-binary", ":all:", "--no-deps", "--require-hashes",
        "-r", REQUIREMENTS / "runtime.txt", "-r", REQUIREMENTS / "speech.txt", "-r", REQUIREMENTS / "dev.txt",
    )  # fmt: skip


def _fit_torchaudio() -> None:
    # transformers imports torchaudio wherever it is installed. Its native parts need CUDA's libraries, and it can do
    # without them: what is used of it here is plain Python (torchaudio/_extension/__init__.py).
    asked = subprocess.run([VENV / "bin" / "python", "-c", "import torch; print(torch.version.cuda)"],  # noqa: S603
                           stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
    if asked.stdout.strip() == "None":
        for library in native_parts(VENV):
            library.unlink()


def native_parts(environment: Path) -> list[Path]:
    """torchaudio's, which it looks for when it is imported."""
    return sorted(environment.glob("lib/python*/site-packages/torchaudio/lib/*torchaudio*.so"))


def _install_llama(settings: Sequence[str]) -> None:
    options = [option for setting in settings for option in ("--config-settings", setting)]
    if _has_gpu() and not _has_nvcc():
        _say("      There is an NVIDIA GPU but no nvcc, so llama.cpp is built for the CPU. To have it on the GPU,")
        _say("      install the CUDA toolkit, put nvcc on the PATH, and run `make setup` again.")
    # The same version may be there, built otherwise; uv's --reinstall would build what lies in its cache once more.
    _run(VENV / "bin" / "uv", "pip", "uninstall", "--quiet", "--python", VENV / "bin" / "python", "llama-cpp-python")
    _uv_install(
        "--no-deps", "--require-hashes", "--no-binary", "llama-cpp-python", *options,
        "--build-constraints", REQUIREMENTS / "build.txt", "-r", REQUIREMENTS / "llama.txt",
    )  # fmt: skip


def _install_engine() -> None:
    subprocess.run([VENV / "bin" / "python", "-m", "database"], cwd=ROOT, check=True)  # noqa: S603


def _compile_bytecode() -> None:
    # Its exit code says that some file is not of this Python's syntax; packages do carry such files.
    subprocess.run([VENV / "bin" / "python", "-m", "compileall", "-qq", "-j", "0", VENV / "lib"], check=False)  # noqa: S603


def _uv_install(*arguments: str | Path) -> None:
    _run(VENV / "bin" / "uv", "pip", "install", "--python", VENV / "bin" / "python", *arguments)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, env=installer_environment(os.environ))  # noqa: S603


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _only_one() -> Iterator[None]:
    """One set-up at a time in a checkout; the next one waits, and then finds the work done."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("set-up: another one is at work in this checkout; waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def carry_out(todo: Sequence[Step], stamps: Stamps) -> None:
    """Do what is not done, in order; all of it when the first step, the environment itself, must be done again."""
    afresh = stamps.broken_off or not stamps.is_done(todo[0])
    remaining = [step for step in todo if afresh or not stamps.is_done(step)]
    for number, step in enumerate(remaining, start=1):
        _say(f"[{number}/{len(remaining)}] {step.about}")
        began_s = time.monotonic()
        stamps.begin(step)
        step.run()
        stamps.finish(step)
        _say(f"      {time.monotonic() - began_s:.0f} s")


def main() -> int:
    lacking = missing(
        sys.version_info[:2],
        lambda name: importlib.util.find_spec(name) is not None,
        shutil.which,
        os.environ.get("CXX", ""),
    )
    if lacking:
        _say(advice(lacking))
        return 1
    try:
        with _only_one():
            carry_out(steps(), Stamps(VENV / ".llmux"))
    except KeyboardInterrupt:
        _say("\nset-up: interrupted. Run it again to go on.")
        return 130
    except subprocess.CalledProcessError as error:
        _say(f"set-up: {Path(error.cmd[0]).name} failed; see above. Run it again to go on from here.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
