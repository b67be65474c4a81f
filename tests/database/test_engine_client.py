"""The query engine, as the generated client asks it with LiteLLM's schema."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

from database.migrations import migrate
from tests.gateway import ROOT

CALLS_FILE = Path(__file__).with_name("engine_calls.py")
CALLS = re.findall(r"^async def ([a-z]\w+)\(db: Any\)", CALLS_FILE.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def database(system_postgres: str) -> Iterator[str]:
    """The address of a database with LiteLLM's tables."""
    with psycopg.connect(f"{system_postgres}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE engine")
        asyncio.run(migrate(f"{system_postgres}/engine"))
        yield f"{system_postgres}/engine"
        connection.execute("DROP DATABASE engine WITH (FORCE)")


@pytest.fixture(scope="module")
def ended(database: str, litellms_client: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str | None]:
    """How each call ended: None, or its traceback."""
    (packages,) = litellms_client.iterdir()
    search = os.pathsep.join(filter(None, [str(packages), str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, CALLS_FILE, tmp_path_factory.mktemp("socket")],
        env={**os.environ, "DATABASE_URL": database, "PYTHONPATH": search, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "query-engine" not in done.stderr, done.stderr
    found: Mapping[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("call", CALLS)
def test_through_prismas_client_for_python(call: str, ended: Mapping[str, str | None]) -> None:
    assert ended[call] is None, ended[call]
