"""PostgreSQL never runs as root."""

import os
import pwd
from pathlib import Path

import pytest

from database.account import Account, account
from database.errors import DatabaseError


class Machine:
    """Whose process this is, and who has an account."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, uid: int, users: dict[str, int]) -> None:
        entries = {name: pwd.struct_passwd((name, "x", number, number, "", "/", "")) for name, number in users.items()}
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        monkeypatch.setattr(pwd, "getpwnam", entries.__getitem__)
        monkeypatch.setattr(pwd, "getpwall", lambda: list(entries.values()))


def test_an_ordinary_user_runs_it_as_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Machine(monkeypatch, 1000, {"postgres": 70})
    assert account(tmp_path / "data") is None


def test_root_lends_it_postgres_or_else_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Machine(monkeypatch, 0, {"nobody": 65534, "postgres": 70})
    assert account(tmp_path / "data") == Account("postgres", 70, 70)
    Machine(monkeypatch, 0, {"nobody": 65534})
    assert account(tmp_path / "data") == Account("nobody", 65534, 65534)


def test_root_without_anybody_to_lend_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Machine(monkeypatch, 0, {})
    with pytest.raises(DatabaseError, match="start as an ordinary user"):
        account(tmp_path / "data")


def test_whoever_owns_the_data_goes_on_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Machine(monkeypatch, 0, {"postgres": 70, "nobody": 65534})
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result((0o700, 0, 0, 0, 65534, 0, 0, 0, 0, 0)))
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert account(tmp_path) == Account("nobody", 65534, 65534)


def test_the_data_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Machine(monkeypatch, tmp_path.stat().st_uid + 1, {})
    with pytest.raises(DatabaseError, match="belongs to another user"):
        account(tmp_path)
