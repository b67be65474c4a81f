"""Files and folders that only their owner may read."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from database.errors import DatabaseError

_SHORT_BYTES = 80
"""A socket's path ends at 107 bytes; a folder of this length leaves room for its name."""


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def make_short_folder(prefix: str) -> Path:
    """A new folder with a short path, for what is gone after a restart of the machine.

    As root in /tmp, where whoever is lent the folder can reach it.
    """
    candidates = [] if os.geteuid() == 0 else [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()]
    for candidate in (*candidates, "/tmp"):  # noqa: S108 (mkdtemp makes a folder that is nobody else's)
        if candidate and len(os.fsencode(candidate)) <= _SHORT_BYTES and os.access(candidate, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix=prefix, dir=candidate))
    raise DatabaseError(
        "there is no folder for PostgreSQL's socket: set XDG_RUNTIME_DIR to one of yours, with a short path"
    )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder, made when missing, for this process. The kernel lets go of it however the process ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseError(
                f"the folder {folder.name} is in use by another process: stop that one, or use another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)
