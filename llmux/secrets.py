"""The gateway's own secrets: from the environment, or made on first start and kept in the state folder."""

import os
import secrets
from pathlib import Path

MASTER_KEY_VARIABLE = "LLMUX_MASTER_KEY"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


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
    path = state_dir / "master_key"
    if not path.exists():
        write_private(path, new_key() + "\n")
    elif path.stat().st_mode & 0o077:
        raise ValueError("state/master_key can be read by others; run: chmod 600 on it, or delete it to get a new one")
    kept = path.read_text(encoding="utf-8").strip()
    if not kept.startswith("sk-") or len(kept) < 20:
        raise ValueError("state/master_key is no key (sk- and 20 characters or more); delete it to get a new one")
    return kept
