"""What the command makes of its options; what it finds: tests/acceptance/test_planted_faults.py."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmux.cli import main
from llmux.secrets import MASTER_KEY_VARIABLE
from tests.gateway import MASTER_KEY, ROOT, free_port


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (MASTER_KEY_VARIABLE, "LLMUX_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    port = free_port()
    text = (ROOT / "litellm_config.yaml").read_text().replace("port: 8081", f"port: {port}")
    (tmp_path / "litellm_config.yaml").write_text(text)
    return tmp_path


def accept(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["acceptance", *arguments])


def test_it_says_that_a_key_is_needed_and_makes_none(folder: Path) -> None:
    done = accept()
    assert done.exit_code == 2
    assert "give --key" in done.output
    assert not (folder / "state").exists()


def test_without_an_address_it_is_the_configurations(folder: Path) -> None:
    done = accept("--key", MASTER_KEY)
    assert done.exit_code == 1
    assert "no gateway answers at http://127.0.0.1:" in done.output


def test_the_key_is_the_state_folders(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "master_key").write_text(MASTER_KEY)
    (folder / "state" / "master_key").chmod(0o600)
    assert "no gateway answers" in accept().output
    (folder / "state" / "master_key").chmod(0o644)
    assert "chmod 600" in accept().output


def test_with_an_address_no_configuration_is_needed(folder: Path) -> None:
    (folder / "litellm_config.yaml").unlink()
    done = accept("--url", f"http://127.0.0.1:{free_port()}", "--key", MASTER_KEY)
    assert "no gateway answers" in done.output
    assert "no such file" in accept("--key", MASTER_KEY).output


def test_phases_have_names() -> None:
    assert accept("--phase", "dance").exit_code == 2
