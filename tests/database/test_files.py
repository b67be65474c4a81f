"""What only its owner may read."""

import os
import stat
from pathlib import Path

import pytest

from database.errors import DatabaseError
from database.files import make_short_folder, only_one, write_private


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "password"
    write_private(path, "first")
    write_private(path, "second")
    assert path.read_text() == "second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_sockets_folder_is_in_the_runtime_folder_of_its_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("database.files._SHORT_BYTES", len(os.fsencode(tmp_path)))
    folder = make_short_folder("x-")
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_runtime_folder_with_a_long_path_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    folder = make_short_folder("x-")
    assert folder.parent != long
    folder.rmdir()


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with (
        only_one(tmp_path / "state"),
        pytest.raises(DatabaseError, match="in use by another process"),
        only_one(tmp_path / "state"),
    ):
        pass
    with only_one(tmp_path / "state"):
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
