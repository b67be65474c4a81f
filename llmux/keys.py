"""Named keys without a database: a file of hashes, and of the models that each key may use.

A key has 256 bits of chance, so a plain SHA-256 of it cannot be guessed back; only `create` ever shows the key.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from llmux.secrets import new_key, write_private


class NamedKey(BaseModel):
    """models: names, or groups of models, that the key may use; empty means all"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sha256: str
    models: tuple[str, ...] = ()
    created: datetime


_FILE = TypeAdapter(list[NamedKey])


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class KeyFile:
    """The keys in the state folder. A change by another process is seen at the next look."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "keys.json"
        self._read_at = -1
        self._keys: dict[str, NamedKey] = {}

    def find(self, key: str) -> NamedKey | None:
        """The entry of this key, or None. Raises ValueError for a file that cannot be used."""
        self._refresh()
        return self._keys.get(hash_key(key))

    def all(self) -> list[NamedKey]:
        self._refresh()
        return sorted(self._keys.values(), key=lambda entry: entry.created)

    def create(self, name: str, models: Iterable[str] = ()) -> str:
        """A new key of this name, shown here and never again. Raises ValueError for a name that is taken."""
        if not name.strip() or not name.isprintable():
            raise ValueError("a key needs a name of one line")
        if any(entry.name == name for entry in self.all()):
            raise ValueError(f"there is a key named {name!r} already; revoke it first, or choose another name")
        key = new_key()
        entry = NamedKey(name=name, sha256=hash_key(key), models=tuple(models), created=datetime.now(UTC))
        self._write([*self.all(), entry])
        return key

    def update(self, name: str, models: Iterable[str]) -> None:
        """The models that the key may use from now on. Raises ValueError where there is no key of this name."""
        self._require(name)
        changed = {"models": tuple(models)}
        self._write([entry.model_copy(update=changed) if entry.name == name else entry for entry in self.all()])

    def revoke(self, name: str) -> None:
        """Raises ValueError where there is no key of this name."""
        self._require(name)
        self._write([entry for entry in self.all() if entry.name != name])

    def _require(self, name: str) -> None:
        if all(entry.name != name for entry in self.all()):
            raise ValueError(f"there is no key named {name!r}; `python -m llmux keys list` shows what there is")

    def _write(self, keys: list[NamedKey]) -> None:
        write_private(self._path, _FILE.dump_json(keys, indent=2).decode() + "\n")

    def _refresh(self) -> None:
        try:
            state = self._path.stat()
        except FileNotFoundError:
            self._keys, self._read_at = {}, -1
            return
        if state.st_mtime_ns == self._read_at:
            return
        if state.st_mode & 0o077:
            raise ValueError(f"{self._path.name} can be read by others; run chmod 600 on it")
        try:
            entries = _FILE.validate_json(self._path.read_bytes())
        except ValidationError:
            raise ValueError(f"{self._path.name} is damaged; restore it, or delete it and make the keys anew") from None
        self._keys = {entry.sha256: entry for entry in entries}
        self._read_at = state.st_mtime_ns
