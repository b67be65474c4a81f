"""What LiteLLM's process needs in order to find its database, and the query engine to speak to it with."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ENGINE = Path(__file__).parent / "engine"
"""The folder of the query engine, a server in JavaScript."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where LiteLLM finds its database.

    variables: to be set before LiteLLM starts; the database's password is among them
    packages: the folder with the generated client, to stand first on sys.path
    """

    variables: Mapping[str, str] = field(repr=False)
    packages: Path

    def apply(self) -> None:
        """Make this process the one. Once, and before anything imports prisma, because the client takes its place."""
        assert "prisma" not in sys.modules, "prisma was imported before its client was in place"
        os.environ.update(self.variables)
        sys.path.insert(0, str(self.packages))


def environment(url: str, socket: str, packages: Path) -> Environment:
    """The environment for the database at url, and the engine over it that answers on a Unix socket."""
    variables = {
        "DATABASE_URL": url,
        "LLMUX_ENGINE_SOCKET": socket,
        "DISABLE_SCHEMA_UPDATE": "true",  # or LiteLLM looks for Prisma's own programs to do it with
    }
    return Environment(variables, packages)
