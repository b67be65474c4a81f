"""Brings a database to the tables that the installed LiteLLM expects.

LiteLLM ships its migrations as SQL and lets Prisma's command line apply them, a native program. Here they are
applied directly and recorded as Prisma records them, so that either can go on where the other stopped. Nothing of
LiteLLM's is imported for it: that takes seconds, and LiteLLM reads its environment while it is imported.
"""

import ast
import asyncio
import hashlib
import importlib.util
import logging
import re
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from database.address import conninfo, described, schema
from database.errors import DatabaseError

log = logging.getLogger(__name__)

Connection = psycopg.AsyncConnection[Any]

LOCKS = (72707369, int.from_bytes(b"llm_mig2", "big"))
"""Prisma's own, and that of LiteLLM around it."""

LOCK_S = 120.0
"""How long to wait for someone else who is migrating the same database."""

# As Prisma's schema engine makes it.
_RECORDS = """
CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id                  VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum            VARCHAR(64) NOT NULL,
    finished_at         TIMESTAMPTZ,
    migration_name      VARCHAR(255) NOT NULL,
    logs                TEXT,
    rolled_back_at      TIMESTAMPTZ,
    started_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count INTEGER NOT NULL DEFAULT 0
)"""

_CONCURRENT_INDEX = re.compile(
    r'CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"([^"]+)"', re.I
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step from one state of the tables to the next. Its name begins with a date, by which they are ordered."""

    name: str
    script: bytes

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.script).hexdigest()

    @property
    def concurrent_index(self) -> str | None:
        """The index that this one builds beside running writes, which PostgreSQL refuses inside a transaction."""
        code = "\n".join(line for line in self.script.decode().splitlines() if not line.lstrip().startswith("--"))
        found = _CONCURRENT_INDEX.search(code)
        return found.group(1) if found else None


def schema_file() -> Path:
    """LiteLLM's schema.prisma."""
    return _extras() / "schema.prisma"


def shipped() -> Sequence[Migration]:
    """The migrations of the installed LiteLLM, in order."""
    scripts = sorted(_extras().glob("migrations/*/migration.sql"))
    return [Migration(path.parent.name, path.read_bytes()) for path in scripts]


@dataclass(frozen=True, slots=True)
class Index:
    """An index that LiteLLM builds after its migrations, so that a large table need not stand still for it."""

    table: str
    name: str
    columns: Sequence[str]


def later_indexes() -> Sequence[Index]:
    """Those of the installed LiteLLM, as its own source lists them."""
    source = _extras() / "request_log_indexes.py"
    if not source.exists():
        return []
    calls = [node for node in ast.walk(ast.parse(source.read_bytes())) if isinstance(node, ast.Call)]
    listed = [call.args for call in calls if isinstance(call.func, ast.Name) and call.func.id == "RequestLogIndex"]
    values = [[ast.literal_eval(argument) for argument in arguments] for arguments in listed]
    return [Index(table, name, re.findall('"([^"]+)"', columns)) for table, name, columns in values]


def _extras() -> Path:
    spec = importlib.util.find_spec("litellm_proxy_extras")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def outstanding(known: Sequence[Migration], applied: Collection[str]) -> Sequence[Migration]:
    """What is left to do. Raises DatabaseError for a database that is newer than this LiteLLM.

    An applied migration that nobody knows and that is older than the newest known one was withdrawn or renamed since.
    """
    newest = max((migration.name for migration in known), default="")
    newer = sorted(name for name in applied if name not in {migration.name for migration in known} and name > newest)
    if newer:
        raise DatabaseError(
            f"the database was made by a newer LiteLLM: it has the migration {newer[-1]}, and this LiteLLM knows none "
            f"after {newest}. Install the newer version again, or restore a backup from before the upgrade"
        )
    return [migration for migration in known if migration.name not in applied]


async def migrate(url: str) -> int:
    """Apply what is outstanding; the number of migrations applied. Raises DatabaseError.

    Interrupted in the middle, it goes on from there the next time. Two at a time on one database do the work once.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(conninfo(url), autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise DatabaseError(f"cannot connect to the database {described(url)}: {_in_short(error)}") from None
    async with connection:
        try:
            await _enter_schema(connection, schema(url))
            known = shipped()
            if not outstanding(known, await _applied(connection)) and not await _missing(connection):
                return 0
            await _lock(connection)
            todo = outstanding(known, await _applied(connection))
            if todo:
                log.info("bringing the database up to date: %d migrations", len(todo))
            await _apply_all(connection, todo)
            for index in await _missing(connection):
                await _build(connection, index)
            return len(todo)
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f"{_in_short(error)}: the user of {described(url)} must own the database, or be allowed to create in "
                f"the schema {schema(url)}"
            ) from None
        except psycopg.OperationalError as error:
            raise DatabaseError(f"lost the database {described(url)}: {_in_short(error)}; start again") from None


async def _enter_schema(connection: Connection, name: str) -> None:
    if name != "public":
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name)))
        await connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(name)))


async def _applied(connection: Connection) -> Collection[str]:
    """The names that are recorded as applied. Raises DatabaseError where tables have no record at all."""
    found = await connection.execute(
        "SELECT to_regclass('_prisma_migrations') IS NOT NULL, to_regclass('\"LiteLLM_VerificationToken\"') IS NOT NULL"
    )
    has_records, has_tables = await found.fetchone() or (False, False)
    if not has_records and has_tables:
        raise DatabaseError(
            "the database has LiteLLM's tables but no record of how they came about (an older LiteLLM made them with "
            "`prisma db push`): start that LiteLLM once with USE_PRISMA_MIGRATE=True, which writes the record"
        )
    if not has_records:
        return set()
    names = await connection.execute(
        "SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL"
    )
    return {name for (name,) in await names.fetchall()}


async def _lock(connection: Connection) -> None:
    """Held until the connection closes. Tried and tried again, because waiting inside PostgreSQL would keep an old
    snapshot alive, for which the other's CREATE INDEX CONCURRENTLY waits in turn."""
    pause_s = 0.05
    deadline_s = asyncio.get_running_loop().time() + LOCK_S
    for key in LOCKS:
        while True:
            taken = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", [key])).fetchone()
            if taken == (True,):
                break
            if asyncio.get_running_loop().time() > deadline_s:
                raise DatabaseError(
                    f"someone else has been migrating the database for {LOCK_S:.0f} s: wait for it, then start again"
                )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)


async def _apply_all(connection: Connection, todo: Iterable[Migration]) -> None:
    await connection.execute(_RECORDS)
    # Prisma takes a migration that was begun and not finished for a person's business. All but the concurrent ones are
    # whole or not there, and those can be begun again.
    await connection.execute(
        "UPDATE _prisma_migrations SET rolled_back_at = now() WHERE finished_at IS NULL AND rolled_back_at IS NULL"
    )
    for migration in todo:
        try:
            if migration.concurrent_index is None:
                async with connection.transaction():
                    await _apply(connection, migration)
            else:
                await _drop_if_unfinished(connection, migration.concurrent_index)
                await _apply(connection, migration)
        except (psycopg.errors.InsufficientPrivilege, psycopg.OperationalError):
            raise
        except psycopg.Error as error:
            raise DatabaseError(
                f"LiteLLM's migration {migration.name} failed: {_in_short(error)}. What came before it is done, and "
                "nothing of it; the tables are not as LiteLLM left them"
            ) from None


async def _apply(connection: Connection, migration: Migration) -> None:
    record = str(uuid.uuid4())
    await connection.execute(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES (%s, %s, %s)",
        [record, migration.checksum, migration.name],
    )
    await connection.execute(migration.script)
    await connection.execute(
        "UPDATE _prisma_migrations SET finished_at = clock_timestamp(), applied_steps_count = 1 WHERE id = %s", [record]
    )


async def _missing(connection: Connection) -> Sequence[Index]:
    """The later indexes that are not there, or only half built."""
    found = await connection.execute(
        "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
        "WHERE indisvalid AND relnamespace = current_schema()::regnamespace"
    )
    there = {name for (name,) in await found.fetchall()}
    return [index for index in later_indexes() if index.name not in there]


async def _build(connection: Connection, index: Index) -> None:
    """Beside running writes, which PostgreSQL does not do for a partitioned table."""
    plain = "SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass(quote_ident(%s))"
    found = await connection.execute(plain, [index.table])
    concurrently = sql.SQL("CONCURRENTLY" if await found.fetchone() == (True,) else "")
    log.debug("building the index %s", index.name)
    await _drop_if_unfinished(connection, index.name)
    await connection.execute(
        sql.SQL("CREATE INDEX {} IF NOT EXISTS {} ON {} ({})").format(
            concurrently,
            sql.Identifier(index.name),
            sql.Identifier(index.table),
            sql.SQL(", ").join(map(sql.Identifier, index.columns)),
        )
    )


async def _drop_if_unfinished(connection: Connection, index: str) -> None:
    """An interrupted concurrent build leaves an index that is there but not valid."""
    found = await connection.execute(
        "SELECT FROM pg_index WHERE indexrelid = to_regclass(quote_ident(%s)) AND NOT indisvalid", [index]
    )
    if await found.fetchone() is not None:
        await connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(index)))


def _in_short(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip().splitlines()[-1]
