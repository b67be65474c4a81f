"""A database for LiteLLM's keys, budgets and admin UI, with nothing to download and nothing to set up.

    async with database.embedded(Path("state")) as environment:
        environment.apply()
        from litellm.proxy.proxy_server import app
        ...

`embedded` brings its own PostgreSQL; `external` uses one that is there.
"""

from database.database import embedded, external
from database.environment import Environment
from database.errors import DatabaseError

__all__ = ["DatabaseError", "Environment", "embedded", "external"]
