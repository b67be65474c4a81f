from pathlib import Path

import pytest

from llmux.secrets import DATABASE_URL_VARIABLE, MASTER_KEY_VARIABLE, database_url, master_key, write_private


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MASTER_KEY_VARIABLE, raising=False)


def test_the_first_start_makes_a_key_that_only_the_owner_can_read(tmp_path: Path) -> None:
    key = master_key(tmp_path / "state")
    assert key.startswith("sk-")
    assert len(key) > 40
    assert (tmp_path / "state" / "master_key").stat().st_mode & 0o777 == 0o600
    assert master_key(tmp_path / "state") == key


def test_two_installations_have_two_keys(tmp_path: Path) -> None:
    assert master_key(tmp_path / "a") != master_key(tmp_path / "b")


def test_the_environment_wins_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MASTER_KEY_VARIABLE, "sk-given-by-the-environment")
    assert master_key(tmp_path) == "sk-given-by-the-environment"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("weak", ["", "sk-1234", "no-prefix-but-quite-long-enough"])
def test_a_weak_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weak: str) -> None:
    monkeypatch.setenv(MASTER_KEY_VARIABLE, weak)
    with pytest.raises(ValueError, match="20 characters"):
        master_key(tmp_path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    master_key(tmp_path)
    (tmp_path / "master_key").chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        master_key(tmp_path)


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    write_private(tmp_path / "file", "one")
    write_private(tmp_path / "file", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "two")]


def test_a_database_of_the_environment_wins_over_that_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_private(tmp_path / "database_url", "postgresql://of-the-file/llmux\n")
    monkeypatch.delenv(DATABASE_URL_VARIABLE, raising=False)
    assert database_url(tmp_path) == "postgresql://of-the-file/llmux"
    monkeypatch.setenv(DATABASE_URL_VARIABLE, "postgresql://of-the-environment/llmux")
    assert database_url(tmp_path) == "postgresql://of-the-environment/llmux"
