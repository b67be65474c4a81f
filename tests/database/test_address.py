"""Addresses as people write them for Prisma, for libpq and for messages."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from database.address import conninfo, described, schema
from database.errors import DatabaseError


def test_what_only_prisma_knows_is_left_out() -> None:
    url = "postgresql://me:s%40crt@db:5433/keys?schema=proxy&connection_limit=5&sslmode=require&pgbouncer=true"
    assert conninfo_to_dict(conninfo(url)) == {
        "user": "me", "password": "s@crt", "host": "db", "port": "5433", "dbname": "keys", "sslmode": "require",
    }  # fmt: skip
    assert schema(url) == "proxy"


def test_a_socket_may_stand_in_the_place_of_a_host_or_behind_it() -> None:
    for url in ("postgresql://me:x@%2Frun%2Fpg/keys", "postgresql://me:x@localhost/keys?host=/run/pg"):
        assert conninfo_to_dict(conninfo(url))["host"] == "/run/pg"
        assert schema(url) == "public"


def test_a_message_names_the_database_and_not_the_password() -> None:
    assert described("postgresql://me:secret@db/keys?schema=a") == "me@db/keys"


@pytest.mark.parametrize("url", ["", "mysql://me:secret@db/keys", "postgresql://me:secret@[db/keys"])
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"postgresql://") as refused:
        conninfo(url)
    assert "secret" not in str(refused.value)


def test_a_password_that_must_be_encoded_is_refused_with_how() -> None:
    with pytest.raises(DatabaseError, match="%40") as refused:
        conninfo("postgresql://me:50%secret@db/keys")
    assert "50%" not in str(refused.value)
