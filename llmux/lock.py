"""What was fetched, by revision and hash: as each repository's own record, and as the lock beside the configuration.

A record (`.fetched.json` in the repository's folder) is what a fetch saw; the lock is what every later fetch must see.
Neither ever holds a hash that nobody computed from the bytes.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from llmux.config import Config

_RECORD = ".fetched.json"


class LockError(Exception):
    """A lock or a record cannot be read. The message names the file."""


class Seen(BaseModel):
    """A file's size and SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    sha256: str


class Pinned(BaseModel):
    """A repository at one commit. files: by path in it"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: str
    files: Mapping[str, Seen]


class Record(Pinned):
    """What a fetch saw, and what was made of it. converted: the files that lie there instead; empty: it was not"""

    converted: Mapping[str, Seen] = {}

    @property
    def pinned(self) -> Pinned:
        return Pinned(revision=self.revision, files=self.files)

    @property
    def here(self) -> Mapping[str, Seen]:
        """What the folder should hold."""
        return self.converted or self.files

    def with_file(self, name: str, seen: Seen) -> "Record":
        return Record(revision=self.revision, files={**self.files, name: seen})

    def without(self, name: str) -> "Record":
        """A converted copy is whole or nothing: it is made from all files."""
        kept = {} if self.converted else {key: seen for key, seen in self.files.items() if key != name}
        return Record(revision=self.revision, files=kept)


_LOCK = TypeAdapter(dict[str, Pinned])


def lock_path(config: Config) -> Path:
    return config.path.with_suffix(".lock.json")


def read_lock(config: Config) -> dict[str, Pinned]:
    """By repository; empty where there is none. Raises LockError."""
    path = lock_path(config)
    try:
        return _LOCK.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError):
        raise LockError(f"{path.name}, beside the configuration, is no lock of llmux's; restore or remove it") from None


def write_lock(config: Config, lock: Mapping[str, Pinned]) -> None:
    _write(lock_path(config), _LOCK.dump_json(dict(sorted(lock.items())), indent=1))


def read_record(folder: Path) -> Record | None:
    """What was fetched into a folder; None where nothing was. Raises LockError."""
    path = folder / _RECORD
    try:
        return Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise LockError(f"{_RECORD} of {folder.name} cannot be read; remove it, and fetch again") from None


def write_record(folder: Path, record: Record) -> None:
    _write(folder / _RECORD, record.model_dump_json(indent=1).encode())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, whenever the process ends."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_bytes(content + b"\n")
    unfinished.replace(path)
