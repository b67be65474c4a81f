"""What LiteLLM's process is given."""

import os
import sys
from pathlib import Path

import pytest

from database.environment import environment


def test_the_variables_name_the_database_and_the_engine(tmp_path: Path) -> None:
    made = environment("postgresql://me:secret@db/keys", "/run/engine", tmp_path)
    assert made.variables == {
        "DATABASE_URL": "postgresql://me:secret@db/keys",
        "LLMUX_ENGINE_SOCKET": "/run/engine",
        "DISABLE_SCHEMA_UPDATE": "true",
    }
    assert "secret" not in repr(made)


def test_applied_they_are_this_processs_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "prisma", raising=False)
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    made = environment("postgresql://me@db/keys", "/run/engine", tmp_path)
    made.apply()
    assert os.environ == made.variables
    assert sys.path == [str(tmp_path), "elsewhere"]


def test_a_client_that_was_imported_before_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "prisma", sys)
    with pytest.raises(AssertionError, match="imported before"):
        environment("postgresql://me@db/keys", "/run/engine", tmp_path).apply()
