"""The engine's npm packages are installed once."""

import json
from pathlib import Path

import pytest

from database.errors import DatabaseError
from database.installation import check_installed, install_engine, is_installed

WANTED = {
    "": {"name": "query-engine"},
    "node_modules/pg": {"version": "8.0.0", "integrity": "sha512-a"},
    "node_modules/elsewhere": {"version": "1.0.0", "integrity": "sha512-b", "optional": True},
}
PG = {name: WANTED[name] for name in ("node_modules/pg",)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "package-lock.json").write_text(json.dumps({"packages": WANTED}))
    return tmp_path


def installed(folder: Path, packages: object) -> None:
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / ".package-lock.json").write_text(json.dumps({"packages": packages}))


def npm(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr("database.programs.npm", lambda: ["sh", "-c", f'echo "$@" > asked; exit {code}', "npm"])


def test_packages_are_there_when_npm_says_so(folder: Path) -> None:
    assert not is_installed(folder)
    with pytest.raises(DatabaseError, match="run: make setup"):
        check_installed(folder)
    installed(folder, PG)
    assert is_installed(folder)
    check_installed(folder)


def test_packages_of_an_older_lock_file_are_not_those(folder: Path) -> None:
    installed(folder, {"node_modules/pg": {"integrity": "sha512-older"}})
    assert not is_installed(folder)


def test_npm_is_asked_for_exactly_the_lock_file_and_runs_nobodys_scripts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    npm(monkeypatch, 0)
    install_engine(folder)
    assert (folder / "asked").read_text().startswith("ci --omit=dev --ignore-scripts")
    assert "installing" in capsys.readouterr().err


def test_what_is_there_is_not_installed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(folder, PG)
    npm(monkeypatch, 1)
    install_engine(folder)
    assert not (folder / "asked").exists()


def test_an_installation_that_failed_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(monkeypatch, 1)
    with pytest.raises(DatabaseError, match="npm could not install"):
        install_engine(folder)
