from pathlib import Path

import pytest

from llmux.keys import KeyFile


def test_a_key_is_found_by_itself_and_kept_as_a_hash(tmp_path: Path) -> None:
    key = KeyFile(tmp_path).create("Open WebUI", ["Small"])
    found = KeyFile(tmp_path).find(key)
    assert found is not None
    assert (found.name, found.models) == ("Open WebUI", ("Small",))
    assert key not in (tmp_path / "keys.json").read_text()
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_a_running_gateway_sees_keys_made_and_revoked_beside_it(tmp_path: Path) -> None:
    running = KeyFile(tmp_path)
    assert running.find("sk-nothing") is None
    key = KeyFile(tmp_path).create("OpenCode")
    assert running.find(key) is not None
    KeyFile(tmp_path).revoke("OpenCode")
    assert running.find(key) is None


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    keys.create("OpenCode")
    with pytest.raises(ValueError, match="already"):
        keys.create("OpenCode")
    with pytest.raises(ValueError, match="no key named"):
        keys.revoke("opencode")


def test_a_damaged_or_shared_file_is_refused(tmp_path: Path) -> None:
    KeyFile(tmp_path).create("OpenCode")
    (tmp_path / "keys.json").chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        KeyFile(tmp_path).all()
    (tmp_path / "keys.json").write_text("[")
    (tmp_path / "keys.json").chmod(0o600)
    with pytest.raises(ValueError, match="damaged"):
        KeyFile(tmp_path).all()
