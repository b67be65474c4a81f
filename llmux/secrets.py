"""The gateway's own secrets: from the environment, or made on first start and kept in the state folder."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

MASTER_KEY_VARIABLE = "LLMUX_MASTER_KEY"

UI_PASSWORD_VARIABLE = "UI_PASSWORD"  # noqa: S105 (the name of a variable; the user's is UI_USERNAME, or admin)

DATABASE_URL_VARIABLE = "DATABASE_URL"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def new_key() -> str:
    """A fresh API key with 256 bits of chance."""
    return f"sk-{secrets.token_urlsafe(32)}"


def master_key(state_dir: Path) -> str:
    """The key that may do everything. Raises ValueError for one too short to be a secret."""
    given = os.environ.get(MASTER_KEY_VARIABLE)
    if given is not None:
        if not given.startswith("sk-") or len(given) < 20:
            raise ValueError(f"{MASTER_KEY_VARIABLE} must begin with sk- and have 20 characters or more")
        return given
    kept = _kept(state_dir / "master_key", new_key)
    if not kept.startswith("sk-") or len(kept) < 20:
        raise ValueError("state/master_key is no key (sk- and 20 characters or more); delete it to get a new one")
    return kept


def ui_password(state_dir: Path) -> str:
    """What opens the admin UI, for the user that UI_USERNAME names, or else for admin. Raises ValueError."""
    given = os.environ.get(UI_PASSWORD_VARIABLE)
    password = _kept(state_dir / "ui_password", lambda: secrets.token_urlsafe(16)) if given is None else given
    if len(password) < 12:
        raise ValueError(f"{UI_PASSWORD_VARIABLE} must have 12 characters or more")
    return password


def database_url(state_dir: Path) -> str:
    """Where the database is that somebody else looks after. Raises ValueError where nobody says so."""
    given = os.environ.get(DATABASE_URL_VARIABLE)
    if given:
        return given
    path = state_dir / "database_url"
    if not path.exists():
        raise ValueError(
            f"llmux.database is external: set {DATABASE_URL_VARIABLE}, or write it to state/database_url (chmod 600)"
        )
    return read_private(path)


def _kept(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        write_private(path, make() + "\n")
    return read_private(path)


def read_private(path: Path) -> str:
    """What a file of the state folder says. Raises ValueError where others could read it, too."""
    if path.stat().st_mode & 0o077:
        raise ValueError(f"state/{path.name} can be read by others; run: chmod 600 on it")
    return path.read_text(encoding="utf-8").strip()
