"""What LiteLLM's process is given."""

import os
import sys
from pathlib import Path

import pytest

from database import programs
from database.environment import ENGINE, environment


def test_the_variables_name_the_database_and_the_engine(tmp_path: Path) -> None:
    made = environment("postgresql://me:secret@db/keys", tmp_path)
    assert made.variables == {
        "DATABASE_URL": "postgresql://me:secret@db/keys",
        "PRISMA_QUERY_ENGINE_BINARY": str(ENGINE / "query-engine"),
        "LLMUX_NODE": str(programs.node()),
        "DISABLE_SCHEMA_UPDATE": "true",
    }
    assert os.access(ENGINE / "query-engine", os.X_OK)
    assert "secret" not in repr(made)


def test_applied_they_are_this_processs_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "prisma", raising=False)
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    made = environment("postgresql://me@db/keys", tmp_path)
    made.apply()
    assert os.environ == made.variables
    assert sys.path == [str(tmp_path), "elsewhere"]


def test_a_client_that_was_imported_before_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "prisma", sys)
    with pytest.raises(AssertionError, match="imported before"):
        environment("postgresql://me@db/keys", tmp_path).apply()
