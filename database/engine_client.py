"""How LiteLLM's Prisma client asks the query engine: becomes prisma/engine/query.py of the generated client.

prisma's own starts an engine as its child, on a port. This one asks an engine that is kept running for it.

When the engine or the database goes away, what is raised says whether a write may have been done, in the two words that
LiteLLM (proxy/_types.py, DB_RETRY_SAFE_ERROR_TYPES) has for it: httpx.ConnectError for one that was not, which it sends
again, and httpx.ReadError for one that may have been, which it does not, or spend would be counted twice.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from prisma._constants import DEFAULT_CONNECT_TIMEOUT
from prisma.engine.http import HTTPEngine
from prisma.errors import DataError, FieldNotFoundError, TransactionError

__all__ = ("QueryEngine",)

UNREACHABLE, CLOSED = "P1001", "P1017"
"""Prisma's codes for a database that could not be asked, and for one that went away without an answer."""

_UNKNOWN_FIELD = ("UnknownArgument", "UnknownInputField", "UnknownSelectionField")
"""Kinds of P2009 that are about the query. prisma takes the others for these, too: a value that its column cannot hold.

Of those LiteLLM drops the one row that has it; after an unknown field it would try to write all rows again, for ever.
"""


@contextmanager
def _errors(*, undone: bool) -> Iterator[None]:
    """undone: whether what got no answer has come to nothing, as all of a transaction before its commit has"""
    unanswered = httpx.ConnectError if undone else httpx.ReadError
    try:
        yield
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
        raise unanswered("the query engine ended: connection closed") from error
    except httpx.TimeoutException as error:  # whose own words are none
        raise type(error)("The database did not answer in time") from error
    except FieldNotFoundError as error:
        if (error.meta or {}).get("kind") in _UNKNOWN_FIELD:
            raise
        raise DataError(error.data) from error
    except DataError as error:
        if error.code == UNREACHABLE:
            raise httpx.ConnectError(str(error)) from error
        if error.code == CLOSED:
            raise unanswered(str(error)) from error
        raise


class QueryEngine(HTTPEngine):
    """A connection to the engine."""

    def __init__(self, *, dml_path: Path, log_queries: bool = False, **kwargs: Any) -> None:
        super().__init__(url="http://query-engine", **kwargs)
        given = self.session.session_kwargs
        given["transport"] = httpx.AsyncHTTPTransport(uds=os.environ["LLMUX_ENGINE_SOCKET"], limits=given["limits"])

    async def connect(self, timeout: timedelta = DEFAULT_CONNECT_TIMEOUT, datasources: Any = None) -> None:  # noqa: ASYNC109
        if datasources is not None:
            raise ValueError("the query engine is over one database, that of DATABASE_URL")
        await self.request("GET", "/status")

    async def query(self, content: str, *, tx_id: str | None) -> Any:
        headers = {} if tx_id is None else {"X-transaction-id": tx_id}
        with _errors(undone=tx_id is not None):
            return await self.request("POST", "/", content=content, headers=headers)

    async def start_transaction(self, *, content: str) -> str:
        with _errors(undone=True):
            started = await self.request("POST", "/transaction/start", content=content)
        return str(started["id"])

    async def commit_transaction(self, tx_id: str) -> None:
        with _errors(undone=False):
            await self.request("POST", f"/transaction/{tx_id}/commit")

    async def rollback_transaction(self, tx_id: str) -> None:
        """What is not committed comes to nothing, answered or not: no error of this may hide the one that led to it."""
        with suppress(httpx.TransportError, DataError, TransactionError):
            await self.request("POST", f"/transaction/{tx_id}/rollback")

    async def metrics(self, *, format: str, global_labels: dict[str, str] | None) -> Any:  # noqa: A002
        raise NotImplementedError("the query engine keeps no metrics")
