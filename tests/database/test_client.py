"""LiteLLM's client is generated once, from Prisma's parser and prisma's generator alone."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from database.client import client, parse
from database.errors import DatabaseError

SCHEMA = """
datasource client {
  provider = "postgresql"
  url      = env("DATABASE_URL")
}
generator client {
  provider = "prisma-client-py"
  recursive_type_depth = -1
}
model Note {
  id   String @id @default(uuid())
  text Json?
}
"""

USE = """
import asyncio, prisma, prisma.types
from prisma import Prisma
from prisma.builder import dumps
from prisma.models import Note

assert prisma.types.DatasourceOverride(url="x") == {"url": "x"}
print(prisma.__file__, Note.model_fields.keys() >= {"id", "text"}, hasattr(Prisma(), "note"))
"""


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.prisma"
    path.write_text(SCHEMA)
    return path


def test_it_takes_the_place_of_the_package_prisma(schema: Path, tmp_path: Path) -> None:
    packages = asyncio.run(client(schema, tmp_path / "client"))
    used = subprocess.run(
        [sys.executable, "-c", USE], env={"PYTHONPATH": str(packages)}, check=True, capture_output=True, text=True
    )
    assert used.stdout.split() == [str(packages / "prisma" / "__init__.py"), "True", "True"]


def test_it_is_generated_again_only_for_another_schema(
    schema: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asyncio.run(client(schema, tmp_path / "client"))
    with monkeypatch.context() as patched:
        patched.setattr("database.client.parse", None)
        assert asyncio.run(client(schema, tmp_path / "client")) == first
    schema.write_text(SCHEMA.replace("text Json", "body Json"))
    second = asyncio.run(client(schema, tmp_path / "client"))
    assert second != first
    assert list((tmp_path / "client").iterdir()) == [second]


def test_a_schema_that_prisma_cannot_read_is_said(schema: Path) -> None:
    schema.write_text("model Nothing {")
    with pytest.raises(DatabaseError, match="Prisma's parser failed"):
        asyncio.run(parse(schema))
