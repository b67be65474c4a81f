"""The address of a PostgreSQL, as people write it for Prisma, in the words of libpq."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict

from database.errors import DatabaseError

_LIBPQ = frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


def conninfo(url: str) -> str:
    """The address without the parameters that only Prisma knows (connection_limit, pgbouncer, schema ...)."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("postgresql", "postgres"):
            raise DatabaseError("the address of the database must begin with postgresql://")
        known = [(name, value) for name, value in parse_qsl(parts.query) if name in _LIBPQ]
        cleaned = urlunsplit(parts._replace(query=urlencode(known)))
        conninfo_to_dict(cleaned)
    except (ValueError, ProgrammingError):  # whose messages quote the address, with the password
        raise DatabaseError(
            "the address of the database cannot be read: postgresql://user:password@host:port/name is expected, "
            "with any of @ : / ? # % in the password written as %40 %3A %2F %3F %23 %25"
        ) from None
    return cleaned


def schema(url: str) -> str:
    """The schema that LiteLLM's tables are in."""
    return dict(parse_qsl(urlsplit(url).query)).get("schema", "public")


def described(url: str) -> str:
    """The address for a message: without the password."""
    known = conninfo_to_dict(conninfo(url))
    return f"{known.get('user', '')}@{known.get('host', '')}/{known.get('dbname', '')}"
