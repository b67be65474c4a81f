"""Installs the engine's npm packages beside it. Once; a second time does nothing."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from database import programs
from database.environment import ENGINE
from database.errors import DatabaseError

_FLAGS = ("ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def is_installed(folder: Path = ENGINE) -> bool:
    """Whether the packages are those of the lock file, by npm's own account of what it installed."""
    try:
        has = _packages(folder / "node_modules" / ".package-lock.json")
    except FileNotFoundError:
        return False
    wanted = _packages(folder / "package-lock.json")
    return all(has.get(name) == integrity for name, integrity in wanted.items())


def install_engine(folder: Path = ENGINE) -> None:
    """Install what package-lock.json names, from the registry that npm is set up for. Raises DatabaseError."""
    if is_installed(folder):
        return
    print("database: installing the engine's npm packages", file=sys.stderr, flush=True)  # noqa: T201
    done = subprocess.run([*programs.npm(), *_FLAGS], cwd=folder, check=False)  # noqa: S603
    if done.returncode != 0:
        raise DatabaseError("npm could not install the engine's packages; see above")


def check_installed(folder: Path = ENGINE) -> None:
    """Raises DatabaseError where the packages are missing."""
    if not is_installed(folder):
        raise DatabaseError("the database engine is not installed; run: make setup")


def _packages(lock: Path) -> Mapping[str, str]:
    """The packages of a lock file that every machine needs, with what their content must be."""
    listed = json.loads(lock.read_bytes())["packages"]
    return {
        name: package["integrity"]
        for name, package in listed.items()
        if name and not package.get("dev") and not package.get("optional")
    }
