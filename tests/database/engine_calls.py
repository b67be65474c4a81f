"""What LiteLLM asks of its database, in prisma-client-py's words.

Run as a program, because the generated client takes the place of the package prisma: `python engine_calls.py FOLDER`
prints how each call ended, as JSON. FOLDER is for the engine's socket.
"""

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from database.migrations import schema_file
from database.query_engine import QueryEngine
from database.supervision import supervised

URL = os.environ["DATABASE_URL"]

BEYOND_DOUBLES = 9007199254740993
DEEP = "[" * 200 + "]" * 200
METADATA = {
    "team": "ä\u2028\u0085 \" ' \\ \n",
    "looks like JSON": '{"a": "b"}',
    "nested": [{"$type": "Json"}, None, 1.5, True],
}


async def a_key_is_created_as_litellm_writes_it(db: Any) -> None:
    expires = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    created = await db.litellm_verificationtoken.create(
        data={
            "token": "key-1",
            "models": ["gpt-oss", 'with "quotes"'],
            "metadata": json.dumps(METADATA),  # LiteLLM encodes by itself
            "aliases": json.dumps({}),
            "tpm_limit": BEYOND_DOUBLES,
            "spend": 0.1,
            "expires": expires,
            "blocked": False,
        }
    )
    found = await db.litellm_verificationtoken.find_unique(where={"token": "key-1"})
    for key in (created, found):
        assert key.metadata == METADATA
        assert key.models == ["gpt-oss", 'with "quotes"']
        assert (key.tpm_limit, key.spend, key.expires, key.blocked) == (BEYOND_DOUBLES, 0.1, expires, False)
        assert (key.config, key.rpm_limit, key.budget_limits) == ({}, None, None)


async def json_keeps_its_shape(db: Any) -> None:
    from prisma import Json  # type: ignore[attr-defined]  # of the generated client

    values: list[Any] = [
        {},
        [],
        "text",
        '"quoted"',
        '{"a": 1}',
        1,
        1.5,
        True,
        None,
        [[None]],
        {"set": {"push": []}},
        METADATA,
    ]
    for value in values:
        key = await db.litellm_verificationtoken.create(data={"token": f"shape {value!r}", "metadata": Json(value)})
        again = await db.litellm_verificationtoken.find_unique(where={"token": key.token})
        assert key.metadata == again.metadata == value, value


async def a_key_is_updated(db: Any) -> None:
    await db.litellm_verificationtoken.create(data={"token": "updated", "spend": 1.0, "models": ["a"]})
    key = await db.litellm_verificationtoken.update(
        where={"token": "updated"},
        data={
            "spend": {"increment": 0.25},
            "models": {"set": ["b", "c"]},
            "rpm_limit": BEYOND_DOUBLES,
            "metadata": "[]",
        },
    )
    assert (key.spend, key.models, key.rpm_limit, key.metadata) == (1.25, ["b", "c"], BEYOND_DOUBLES, [])
    count = await db.litellm_verificationtoken.update_many(
        where={"token": {"startswith": "upd"}}, data={"blocked": True}
    )
    assert count == 1
    assert await db.litellm_verificationtoken.update(where={"token": "nothing"}, data={"spend": 1.0}) is None


async def a_key_is_upserted_and_deleted(db: Any) -> None:
    for spend in (0.0, 1.0):
        key = await db.litellm_verificationtoken.upsert(
            where={"token": "upserted"},
            data={"create": {"token": "upserted"}, "update": {"spend": {"increment": 1.0}}},
        )
        assert key.spend == spend
    assert (await db.litellm_verificationtoken.delete(where={"token": "upserted"})).token == "upserted"
    assert await db.litellm_verificationtoken.delete(where={"token": "upserted"}) is None
    assert await db.litellm_verificationtoken.find_unique(where={"token": "upserted"}) is None


async def keys_are_found_by_filters(db: Any) -> None:
    now = datetime.now(UTC)
    await db.litellm_verificationtoken.create_many(
        data=[
            {"token": "found 1", "expires": now - timedelta(days=1), "models": ["x", "y"], "team_id": "found"},
            {"token": "found 2", "expires": now + timedelta(days=1), "models": ["y"], "team_id": "found"},
            {"token": "found 3", "models": [], "team_id": "found", "metadata": json.dumps({"tags": {"a": "b"}})},
        ],
        skip_duplicates=True,
    )

    async def tokens(**more: Any) -> list[str]:
        where = {"AND": [{"team_id": "found"}, more.pop("where", {})]}
        keys = await db.litellm_verificationtoken.find_many(where=where, order=[{"token": "asc"}], **more)
        return [key.token[-1] for key in keys]

    assert await tokens() == ["1", "2", "3"]
    assert await tokens(where={"OR": [{"expires": None}, {"expires": {"gt": now}}]}) == ["2", "3"]
    assert await tokens(where={"models": {"has": "x"}}) == ["1"]
    assert await tokens(where={"models": {"is_empty": True}}) == ["3"]
    assert await tokens(where={"token": {"in": ["found 1", "found 3"]}}) == ["1", "3"]
    assert await tokens(where={"NOT": [{"token": {"contains": "2"}}]}) == ["1", "3"]
    assert await tokens(where={"metadata": {"path": ["tags", "a"], "equals": json.dumps("b")}}) == ["3"]
    assert await tokens(take=1, skip=1) == ["2"]
    assert await tokens(cursor={"token": "found 2"}) == ["2", "3"]
    assert await db.litellm_verificationtoken.count(where={"team_id": "found"}) == 3
    assert await db.litellm_verificationtoken.delete_many(where={"team_id": "found"}) == 3


async def budgets_are_connected_and_included(db: Any) -> None:
    await db.litellm_verificationtoken.create(
        data={
            "token": "budgeted",
            "litellm_budget_table": {
                "create": {
                    "max_budget": 5.5,
                    "model_max_budget": json.dumps({"m": {"limit": 1}}),
                    "created_by": "a",
                    "updated_by": "b",
                }
            },
        }
    )
    key = await db.litellm_verificationtoken.find_unique(
        where={"token": "budgeted"}, include={"litellm_budget_table": True}
    )
    assert key.litellm_budget_table.max_budget == 5.5
    assert key.litellm_budget_table.model_max_budget == {"m": {"limit": 1}}
    found = await db.litellm_verificationtoken.find_many(
        where={"litellm_budget_table": {"is": {"max_budget": {"gt": 5}}}}
    )
    assert [each.token for each in found] == ["budgeted"]


async def spend_is_grouped(db: Any) -> None:
    for model, tokens in (("m", BEYOND_DOUBLES), ("m", 1), ("n", 2)):
        await db.litellm_dailyuserspend.create(
            data={
                "user_id": f"user {tokens}",
                "date": "2024-02-29",
                "api_key": "k",
                "model": model,
                "prompt_tokens": tokens,
                "spend": 0.5,
            }
        )
    grouped = await db.litellm_dailyuserspend.group_by(
        by=["model"],
        sum={"spend": True, "prompt_tokens": True},
        count=True,
        where={"api_key": "k"},
        order={"model": "asc"},
    )
    assert [(each["model"], each["_sum"]["spend"], each["_count"]["_all"]) for each in grouped] == [
        ("m", 1.0, 2),
        ("n", 0.5, 1),
    ]
    assert int(grouped[0]["_sum"]["prompt_tokens"]) == BEYOND_DOUBLES + 1
    assert isinstance(grouped[0]["_sum"]["spend"], float)


async def bytes_come_back(db: Any) -> None:
    from prisma import Base64  # type: ignore[attr-defined]  # of the generated client

    content = bytes(range(256))
    await db.litellm_skillstable.create(
        data={"skill_id": "s", "display_title": "t", "instructions": "i", "file_content": Base64.encode(content)}
    )
    found = await db.litellm_skillstable.find_unique(where={"skill_id": "s"})
    assert found.file_content.decode() == content


async def raw_queries_have_their_types(db: Any) -> None:
    rows = await db.query_raw(
        """SELECT $1::text AS text, $2::int8 AS big, $3::float8 AS real, 1.10::numeric AS exact, $4::jsonb AS json,
                  $5::timestamptz AS time, ARRAY['a', NULL] AS list, NULL::text AS nothing, true AS yes""",
        "ä\u2028",
        BEYOND_DOUBLES,
        2.0,
        json.dumps(METADATA),
        datetime(2024, 2, 29, tzinfo=UTC),
    )
    row = rows[0]
    assert (row["text"], row["big"], row["real"], row["yes"]) == ("ä\u2028", BEYOND_DOUBLES, 2.0, True)
    assert (row["json"], row["list"], row["nothing"]) == (METADATA, ["a", None], None)
    assert Decimal(str(row["exact"])) == Decimal("1.1")
    assert datetime.fromisoformat(row["time"]) == datetime(2024, 2, 29, tzinfo=UTC)
    assert isinstance(row["real"], float)
    assert await db.query_first("SELECT 1 AS x WHERE false") is None
    assert await db.execute_raw('UPDATE "LiteLLM_VerificationToken" SET spend = $1 WHERE false', 1.0) == 0


async def a_batch_is_written_whole_or_not_at_all(db: Any) -> None:
    import prisma

    async with db.batch_() as batch:
        batch.litellm_verificationtoken.create(data={"token": "batch", "metadata": json.dumps(METADATA)})
        batch.litellm_verificationtoken.update_many(where={"token": "batch"}, data={"spend": {"increment": 1.0}})
        batch.litellm_verificationtoken.upsert(
            where={"token": "batch 2"}, data={"create": {"token": "batch 2"}, "update": {"spend": {"increment": 1.0}}}
        )
    key = await db.litellm_verificationtoken.find_unique(where={"token": "batch"})
    assert (key.spend, key.metadata) == (1.0, METADATA)
    twice = db.batch_()
    twice.litellm_verificationtoken.create(data={"token": "batch 3"})
    twice.litellm_verificationtoken.create(data={"token": "batch"})
    with pytest.raises(prisma.errors.UniqueViolationError) as raised:
        await twice.commit()
    assert raised.value.code == "P2002"
    assert await db.litellm_verificationtoken.find_unique(where={"token": "batch 3"}) is None


async def a_transaction_is_committed_or_rolled_back(db: Any) -> None:
    import prisma

    async with db.tx() as tx:
        await tx.litellm_verificationtoken.create(data={"token": "tx"})
        assert await db.litellm_verificationtoken.find_unique(where={"token": "tx"}) is None
    assert await db.litellm_verificationtoken.find_unique(where={"token": "tx"}) is not None

    async def fails() -> None:
        async with db.tx() as tx:
            await tx.litellm_verificationtoken.delete(where={"token": "tx"})
            raise KeyError

    with pytest.raises(KeyError):
        await fails()
    assert await db.litellm_verificationtoken.find_unique(where={"token": "tx"}) is not None

    async def lasts_too_long() -> None:
        async with db.tx(timeout=timedelta(milliseconds=50)) as tx:
            await tx.execute_raw("SELECT pg_sleep(0.1)::text")
            await tx.litellm_verificationtoken.delete(where={"token": "tx"})

    with pytest.raises(prisma.errors.TransactionExpiredError):
        await lasts_too_long()
    assert await db.litellm_verificationtoken.find_unique(where={"token": "tx"}) is not None


async def errors_are_those_that_litellm_tells_apart(db: Any) -> None:
    import prisma
    from litellm.proxy.db.exception_handler import PrismaDBExceptionHandler as Handler

    await db.litellm_verificationtoken.create(data={"token": "once"})
    for error, call in (
        (prisma.errors.UniqueViolationError, db.litellm_verificationtoken.create(data={"token": "once"})),
        (
            prisma.errors.RecordNotFoundError,
            db.litellm_verificationtoken.find_unique_or_raise(where={"token": "never"}),
        ),
        (prisma.errors.FieldNotFoundError, db.litellm_verificationtoken.find_many(where={"nothing": 1})),
        (prisma.errors.MissingRequiredValueError, db.litellm_verificationtoken.create(data={})),
        (prisma.errors.RawQueryError, db.query_raw("SELECT * FROM nowhere")),
        (prisma.errors.DataError, db.litellm_verificationtoken.create(data={"token": "nul \0"})),
        (prisma.errors.DataError, db.litellm_verificationtoken.create(data={"token": "typed", "spend": "much"})),
        (prisma.errors.DataError, db.litellm_verificationtoken.create_many(data=[{"token": {"a": "b"}}])),
        (prisma.errors.DataError, db.litellm_verificationtoken.create(data={"token": "deep", "metadata": DEEP})),
    ):
        with pytest.raises(prisma.errors.PrismaError) as raised:
            await call
        assert type(raised.value) is error, f"{type(raised.value)} instead of {error}: {raised.value}"
        assert not Handler.is_database_service_unavailable_error(raised.value), raised.value


async def a_connection_that_postgresql_ends_is_a_lost_one_to_litellm(db: Any) -> None:
    """What was not in a transaction may have been done."""
    asleep = "SELECT pg_sleep(30)::text AS a"
    running = await _running(db.query_raw(asleep), asleep)
    _outside(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = '{asleep}'")
    await _may_have_been_done(running)
    assert await db.query_raw("SELECT 1 AS x") == [{"x": 1}]


async def a_database_that_is_away_has_done_nothing(db: Any) -> None:
    _outside("ALTER DATABASE engine ALLOW_CONNECTIONS false")
    _outside("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'engine'")
    try:
        with suppress(httpx.TransportError):  # on a connection of which the engine has not heard yet
            await db.query_raw("SELECT 1 AS x")
        await _has_not_been_done(db.query_raw("SELECT 1 AS x"))
        await _has_not_been_done(_in_transaction(db, "SELECT 1 AS x"))
    finally:
        _outside("ALTER DATABASE engine ALLOW_CONNECTIONS true")
    assert await db.query_raw("SELECT 1 AS x") == [{"x": 1}]


async def thousands_of_queries_leave_no_memory_behind(db: Any) -> None:
    async def ask(times: int) -> None:
        for index in range(times):
            await db.litellm_verificationtoken.find_unique(where={"token": "key-1"})
            await db.litellm_verificationtoken.update_many(
                where={"token": f"{index}"}, data={"metadata": json.dumps(METADATA)}
            )

    await ask(150)
    before = _resident_bytes(engine.process.pid)
    await ask(600)
    assert _resident_bytes(engine.process.pid) - before < 40e6


async def who_asks_while_the_engine_is_away_is_answered_by_the_next(db: Any) -> None:
    await _kill()
    assert await asyncio.gather(*(db.query_raw("SELECT 1 AS x") for _ in range(30))) == [[{"x": 1}]] * 30


async def what_a_killed_engine_has_not_answered_may_have_been_done(db: Any) -> None:
    asleep = "SELECT pg_sleep(30)::text AS b"
    running = await _running(db.query_raw(asleep), asleep)
    await _kill()
    await _may_have_been_done(running)


async def in_a_transaction_it_has_not(db: Any) -> None:
    asleep = "SELECT pg_sleep(30)::text AS c"
    running = await _running(_in_transaction(db, asleep), asleep)
    await _kill()
    await _has_not_been_done(running)


async def unless_it_was_the_commit(db: Any) -> None:
    for statement in (
        "CREATE TABLE slow (n int)",
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'",
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION wait()",
    ):
        await db.execute_raw(statement)
    running = await _running(_in_transaction(db, "INSERT INTO slow VALUES (1)"), "COMMIT")
    await _kill()
    await _may_have_been_done(running)


CALLS = [
    a_key_is_created_as_litellm_writes_it,
    json_keeps_its_shape,
    a_key_is_updated,
    a_key_is_upserted_and_deleted,
    keys_are_found_by_filters,
    budgets_are_connected_and_included,
    spend_is_grouped,
    bytes_come_back,
    raw_queries_have_their_types,
    a_batch_is_written_whole_or_not_at_all,
    a_transaction_is_committed_or_rolled_back,
    errors_are_those_that_litellm_tells_apart,
    a_connection_that_postgresql_ends_is_a_lost_one_to_litellm,
    a_database_that_is_away_has_done_nothing,
    thousands_of_queries_leave_no_memory_behind,
    who_asks_while_the_engine_is_away_is_answered_by_the_next,
    what_a_killed_engine_has_not_answered_may_have_been_done,
    in_a_transaction_it_has_not,
    unless_it_was_the_commit,
]

engine: QueryEngine
"""The one that answers."""


async def _kill() -> None:
    killed = engine.process
    os.kill(killed.pid, signal.SIGKILL)
    await killed.ended()


async def _in_transaction(db: Any, statement: str) -> None:
    async with db.tx(timeout=timedelta(seconds=60)) as tx:
        await tx.execute_raw(statement)


def _outside(statement: str) -> bool:
    """Run a statement beside the engine; whether it found rows."""
    elsewhere = URL.rpartition("/")[0] + "/postgres"
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        done = connection.execute(statement.encode())
        return done.rowcount > 0


async def _running(call: Coroutine[Any, Any, Any], statement: str) -> asyncio.Task[Any]:
    """A call whose statement, of which no other is running, PostgreSQL has begun with."""
    task = asyncio.create_task(call)
    begun = f"SELECT FROM pg_stat_activity WHERE datname = 'engine' AND state = 'active' AND query = '{statement}'"
    while not await asyncio.to_thread(_outside, begun):
        assert not task.done(), task
    return task


async def _has_not_been_done(call: Awaitable[Any]) -> None:
    """LiteLLM sends it again."""
    from litellm.proxy._types import DB_RETRY_SAFE_ERROR_TYPES

    with pytest.raises(DB_RETRY_SAFE_ERROR_TYPES):
        await call


async def _may_have_been_done(call: Awaitable[Any]) -> None:
    """LiteLLM does not send it again, if doing it twice makes a difference."""
    from litellm.proxy._types import DB_CONNECTION_ERROR_TYPES, DB_RETRY_SAFE_ERROR_TYPES

    with pytest.raises(DB_CONNECTION_ERROR_TYPES) as raised:
        await call
    assert not isinstance(raised.value, DB_RETRY_SAFE_ERROR_TYPES)


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def main(folder: Path) -> None:
    global engine
    engine = QueryEngine(URL, schema_file(), folder)
    async with supervised(engine):
        os.environ["LLMUX_ENGINE_SOCKET"] = engine.socket_path
        from prisma import Prisma  # type: ignore[attr-defined]  # of the generated client

        db = Prisma()
        await db.connect()
        ended: dict[str, str | None] = {}
        for call in CALLS:
            try:
                await call(db)
                ended[call.__name__] = None
            except Exception:
                ended[call.__name__] = traceback.format_exc()
        await db.disconnect()
    sys.stdout.write(json.dumps(ended))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
