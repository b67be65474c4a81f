"""Who PostgreSQL runs as: it refuses root, so that root must lend it another user."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from database.errors import DatabaseError

_CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int

    def take(self, path: Path) -> None:
        """Give this user a file or an empty folder."""
        os.chown(path, self.uid, self.gid)


def account(data: Path) -> Account | None:
    """The user that PostgreSQL is to run as, or None for the one that runs this process.

    data: its data folder; where there is one already, its owner decides
    """
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise DatabaseError(f"{data} belongs to another user: start as the user that made it, or move it away")
        return None
    if owner == 0:
        raise DatabaseError(f"{data} belongs to root, which PostgreSQL refuses: chown it to an ordinary user")
    for entry in pwd.getpwall():
        if entry.pw_uid == owner:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise DatabaseError(
        f"PostgreSQL refuses to run as root, and there is no user {' or '.join(_CANDIDATES)}: "
        "start as an ordinary user, or make one of these"
    )
