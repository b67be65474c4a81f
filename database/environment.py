"""What LiteLLM's process needs in order to find its database, and the Prisma engine to speak to it with."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from database import programs

ENGINE = Path(__file__).parent / "engine"
"""The engine: a server in JavaScript. prisma-client-py starts it as a child of LiteLLM's process."""


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


def environment(url: str, packages: Path) -> Environment:
    """The environment for the database at url."""
    variables = {
        "DATABASE_URL": url,
        "PRISMA_QUERY_ENGINE_BINARY": str(ENGINE / "query-engine"),
        "LLMUX_NODE": str(programs.node()),
        "DISABLE_SCHEMA_UPDATE": "true",  # or LiteLLM looks for Prisma's own programs to do it with
    }
    return Environment(variables, packages)
