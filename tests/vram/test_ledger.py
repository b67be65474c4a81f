"""What a model costs: predicted, then measured, kept in a file that may be lost without harm."""

import json
import os
import stat
from pathlib import Path

import pytest

from vram.ledger import Ledger
from vram.model import ModelSpec

MODEL = ModelSpec("llm", "llm", estimate_bytes=9, ledger_key="weights/16384/2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.json"


def test_before_the_first_load_the_estimate_is_believed(path: Path) -> None:
    ledger = Ledger(path, "gpu")

    assert ledger.bytes_for(MODEL) == 9
    assert ledger.measurement(MODEL) is None


def test_a_measurement_replaces_the_estimate_and_outlives_the_run(path: Path) -> None:
    Ledger(path, "gpu").measured(MODEL, 7)

    later = Ledger(path, "gpu")

    assert later.bytes_for(MODEL) == 7
    assert later.measurement(MODEL) == 7


def test_a_measurement_holds_for_its_device_and_key_alone(path: Path) -> None:
    Ledger(path, "gpu").measured(MODEL, 7)

    assert Ledger(path, "another gpu").bytes_for(MODEL) == 9
    assert Ledger(path, "gpu").bytes_for(ModelSpec("llm", "llm", 9, ledger_key="weights/32768/2")) == 9
    assert Ledger(path, "gpu").bytes_for(ModelSpec("renamed", "llm", 9, ledger_key=MODEL.ledger_key)) == 7


def test_a_model_without_a_key_is_known_by_its_id(path: Path) -> None:
    Ledger(path, "gpu").measured(ModelSpec("tts", "tts", 2), 3)

    assert Ledger(path, "gpu").bytes_for(ModelSpec("tts", "tts", 2)) == 3


def test_running_out_of_memory_raises_the_prediction_until_a_load_is_measured_or_the_run_ends(path: Path) -> None:
    ledger = Ledger(path, "gpu")

    ledger.out_of_memory(MODEL, offered_bytes=12)
    assert ledger.bytes_for(MODEL) == 13
    ledger.out_of_memory(MODEL, offered_bytes=10)
    assert ledger.bytes_for(MODEL) == 13
    assert Ledger(path, "gpu").bytes_for(MODEL) == 9
    ledger.measured(MODEL, 11)

    assert ledger.bytes_for(MODEL) == 11


def test_the_file_is_for_its_owner_alone_and_nothing_else_is_left_beside_it(path: Path) -> None:
    umask = os.umask(0)
    try:
        Ledger(path, "gpu").measured(MODEL, 7)
    finally:
        os.umask(umask)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert json.loads(path.read_text()) == {"gpu": {"weights/16384/2": 7}}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"gpu": 7}', b'{"gpu": {"a": -1}}', b'{"gpu": {"a": true}}']
)
def test_a_broken_file_is_set_aside_with_one_line_in_the_log(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    ledger = Ledger(path, "gpu")
    ledger.measured(MODEL, 7)

    assert len(caplog.records) == 1
    assert str(path.parent) not in caplog.text
    assert path.with_name("ledger.json.unreadable").read_bytes() == content
    assert Ledger(path, "gpu").bytes_for(MODEL) == 7


def test_what_cannot_be_read_at_all_is_set_aside_too(path: Path) -> None:
    path.mkdir(parents=True)

    Ledger(path, "gpu").measured(MODEL, 7)

    assert Ledger(path, "gpu").bytes_for(MODEL) == 7


def test_a_folder_that_cannot_be_written_costs_the_measurement_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    ledger = Ledger(tmp_path / "state" / "ledger.json", "gpu")
    caplog.clear()

    ledger.measured(MODEL, 7)

    assert ledger.bytes_for(MODEL) == 7
    assert len(caplog.records) == 1
