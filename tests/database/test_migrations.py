"""The tables are brought to what LiteLLM expects, from wherever they are."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from database.client import parse
from database.errors import DatabaseError
from database.migrations import (
    LOCKS,
    Migration,
    later_indexes,
    migrate,
    outstanding,
    schema_file,
    shipped,
)
from database.postgres import Cluster

KNOWN = [Migration("20250101000000_a", b""), Migration("20250201000000_b", b""), Migration("20250301000000_c", b"")]


async def rows(url: str, query: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def run(url: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


def test_what_is_left_to_do_is_what_was_not_done_in_order() -> None:
    assert outstanding(KNOWN, set()) == KNOWN
    assert outstanding(KNOWN, {"20250101000000_a", "20250301000000_c"}) == [KNOWN[1]]
    assert outstanding(KNOWN, {migration.name for migration in KNOWN}) == []


def test_a_database_that_is_newer_than_the_code_is_refused_by_the_name_of_its_migration() -> None:
    with pytest.raises(DatabaseError, match="newer LiteLLM: it has the migration 20260101000000_future"):
        outstanding(KNOWN, {"20250101000000_a", "20260101000000_future"})


def test_a_migration_that_was_withdrawn_since_is_no_reason_to_refuse() -> None:
    assert outstanding(KNOWN, {"0_init", "20250115000000_withdrawn"}) == KNOWN


def test_only_what_postgresql_refuses_inside_a_transaction_runs_outside_of_one() -> None:
    assert Migration("a", b'-- CREATE INDEX CONCURRENTLY "x" comes later\nSELECT 1;').concurrent_index is None
    assert Migration("b", b'create index\n concurrently if not exists "x" ON "T"("y");').concurrent_index == "x"
    outside = [migration for migration in shipped() if migration.concurrent_index is not None]
    assert 0 < len(outside) < 20
    for migration in outside:
        assert len(re.findall(rb";\s*$", migration.script, re.MULTILINE)) == 1, "one statement alone"


async def columns_of_schema() -> set[tuple[str, str]]:
    """Table and column names, as Prisma's own parser reads schema.prisma."""
    models = json.loads(await parse(schema_file()))["dmmf"]["datamodel"]["models"]
    return {
        (model.get("dbName") or model["name"], field.get("dbName") or field["name"])
        for model in models
        for field in model["fields"]
        if field["kind"] != "object"
    }


async def test_a_new_database_gets_the_tables_of_schema_prisma(cluster: Cluster) -> None:
    assert await migrate(cluster.url) == len(shipped())
    found = await rows(
        cluster.url,
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name <> '_prisma_migrations'",
    )
    assert set(found) == await columns_of_schema()


async def test_each_migration_is_recorded_as_prisma_records_it(cluster: Cluster) -> None:
    await migrate(cluster.url)
    found = await rows(
        cluster.url,
        "SELECT migration_name, checksum, applied_steps_count, finished_at >= started_at, rolled_back_at, logs "
        "FROM _prisma_migrations ORDER BY migration_name",
    )
    assert found == [(migration.name, migration.checksum, 1, True, None, None) for migration in shipped()]


async def test_a_second_time_there_is_nothing_to_do(cluster: Cluster) -> None:
    await migrate(cluster.url)
    assert await migrate(cluster.url) == 0


async def test_the_indexes_that_litellm_builds_afterwards_are_there(cluster: Cluster) -> None:
    await migrate(cluster.url)
    valid = await rows(cluster.url, "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indisvalid")
    assert {(index.name,) for index in later_indexes()} <= set(valid)


def test_litellm_means_the_same_indexes_and_locks() -> None:
    from litellm_proxy_extras.migration_lock import MIGRATION_LOCK_KEY
    from litellm_proxy_extras.request_log_indexes import REQUEST_LOG_INDEXES

    theirs = [(index.table, index.name, list(index.columns)) for index in REQUEST_LOG_INDEXES]
    assert [(index.table, index.name, list(index.columns)) for index in later_indexes()] == theirs
    assert LOCKS == (72707369, MIGRATION_LOCK_KEY)


async def test_an_index_that_was_half_built_is_built_again(cluster: Cluster) -> None:
    await migrate(cluster.url)
    name = later_indexes()[0].name
    concurrent = [migration for migration in shipped() if migration.concurrent_index][-1]
    await run(
        cluster.url,
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '\"{name}\"'::regclass",
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '\"{concurrent.concurrent_index}\"'::regclass",
        f"UPDATE _prisma_migrations SET finished_at = NULL WHERE migration_name = '{concurrent.name}'",
    )
    assert await migrate(cluster.url) == 1
    assert await rows(cluster.url, "SELECT FROM pg_index WHERE NOT indisvalid") == []
    records = await rows(
        cluster.url,
        "SELECT finished_at IS NULL, rolled_back_at IS NULL FROM _prisma_migrations "
        f"WHERE migration_name = '{concurrent.name}' ORDER BY started_at",
    )
    assert records == [(True, False), (False, True)]


async def test_two_at_a_time_do_the_work_once(cluster: Cluster) -> None:
    done = await asyncio.gather(migrate(cluster.url), migrate(cluster.url))
    assert sorted(done) == [0, len(shipped())]


@pytest.mark.parametrize("count", [1, 100])
async def test_it_goes_on_where_it_was_broken_off(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    whole = shipped()
    broken = Migration(whole[count].name, b'CREATE TABLE half (); SELECT FROM "no such table";')
    monkeypatch.setattr("database.migrations.shipped", lambda: [*whole[:count], broken])
    with pytest.raises(DatabaseError, match=f"{broken.name} failed: relation .no such table. does not exist"):
        await migrate(cluster.url)
    assert await rows(cluster.url, "SELECT FROM pg_class WHERE relname = 'half'") == [], "the half of it is taken back"

    monkeypatch.setattr("database.migrations.shipped", lambda: whole)
    assert await migrate(cluster.url) == len(whole) - count


async def test_a_database_of_an_older_litellm_is_brought_forward_with_what_is_in_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shipped()
    monkeypatch.setattr("database.migrations.shipped", lambda: whole[:40])
    monkeypatch.setattr("database.migrations.later_indexes", list)
    assert await migrate(cluster.url) == 40
    await run(cluster.url, "INSERT INTO \"LiteLLM_VerificationToken\" (token, key_name) VALUES ('hash', 'Open WebUI')")
    monkeypatch.undo()

    assert await migrate(cluster.url) == len(whole) - 40
    assert await rows(cluster.url, 'SELECT token, key_name FROM "LiteLLM_VerificationToken"') == [
        ("hash", "Open WebUI")
    ]


async def test_a_newer_database_is_refused_and_left_alone(cluster: Cluster) -> None:
    await migrate(cluster.url)
    await run(
        cluster.url,
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) "
        "VALUES ('x', 'x', '20990101000000_future', now())",
    )
    with pytest.raises(DatabaseError, match="newer LiteLLM"):
        await migrate(cluster.url)


async def test_tables_without_a_record_are_refused_with_what_to_do(cluster: Cluster) -> None:
    await run(cluster.url, 'CREATE TABLE "LiteLLM_VerificationToken" ()')
    with pytest.raises(DatabaseError, match="USE_PRISMA_MIGRATE"):
        await migrate(cluster.url)


async def test_a_schema_of_its_own_is_made_and_used(cluster: Cluster) -> None:
    await migrate(f"{cluster.url}?schema=proxy&connection_limit=5")
    found = await rows(
        cluster.url, "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name ~ '^Li'"
    )
    assert found == [("proxy",)]


async def test_nobody_to_talk_to_is_said_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"cannot connect to the database me@127.0.0.1/x") as refused:
        await migrate("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(refused.value)


async def test_a_wrong_password_is_said_without_the_password(new_database: Callable[[], str]) -> None:
    url = re.sub(":[^:@]*@", ":wrong-one@", new_database())
    with pytest.raises(DatabaseError, match="password authentication failed") as refused:
        await migrate(url)
    assert "wrong-one" not in str(refused.value)


async def test_a_user_who_may_create_nothing_is_told_what_is_missing(new_database: Callable[[], str]) -> None:
    url = new_database()
    await run(url, "CREATE ROLE guest LOGIN PASSWORD 'guest'", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        with pytest.raises(DatabaseError, match="must own the database"):
            await migrate(url.replace(url.split("//")[1].split("@")[0], "guest:guest"))
    finally:
        await run(url, "DROP ROLE guest")
