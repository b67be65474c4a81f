"""What a model costs: predicted, then measured, kept in a file that may be lost without harm."""

import json
import os
import stat
from pathlib import Path

import pytest

from vram.ledger import Figures, Ledger
from vram.model import Files, ModelSpec
from vram.prediction import WORKING_BYTES

MODEL = ModelSpec("llm", "llm", estimate_bytes=9, ledger_key="weights/16384/2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.json"


def test_before_the_first_load_the_estimate_is_believed(path: Path) -> None:
    ledger = Ledger(path, "gpu")

    assert ledger.bytes_for(MODEL) == 9
    assert ledger.figures(MODEL) == Figures(predicted_bytes=9, measured_bytes=None, load_s=None)


def test_a_measurement_replaces_the_estimate_and_outlives_the_run(path: Path) -> None:
    Ledger(path, "gpu").loaded(MODEL, 7, took_s=3.5)

    later = Ledger(path, "gpu")

    assert later.bytes_for(MODEL) == 7
    assert later.figures(MODEL) == Figures(predicted_bytes=9, measured_bytes=7, load_s=3.5)


def test_a_measurement_holds_for_its_device_and_key_alone(path: Path) -> None:
    Ledger(path, "gpu").loaded(MODEL, 7, took_s=3.5)

    assert Ledger(path, "another gpu").bytes_for(MODEL) == 9
    assert Ledger(path, "gpu").bytes_for(ModelSpec("llm", "llm", 9, ledger_key="weights/32768/2")) == 9
    assert Ledger(path, "gpu").bytes_for(ModelSpec("renamed", "llm", 9, ledger_key=MODEL.ledger_key)) == 7


def test_a_model_without_a_key_is_known_by_its_id(path: Path) -> None:
    Ledger(path, "gpu").loaded(ModelSpec("tts", "tts", 2), 3, took_s=1)

    assert Ledger(path, "gpu").bytes_for(ModelSpec("tts", "tts", 2)) == 3


def test_running_out_of_memory_raises_the_prediction_until_a_load_is_measured_or_the_run_ends(path: Path) -> None:
    ledger = Ledger(path, "gpu")

    ledger.out_of_memory(MODEL, offered_bytes=12)
    assert ledger.bytes_for(MODEL) == 13
    ledger.out_of_memory(MODEL, offered_bytes=10)
    assert ledger.bytes_for(MODEL) == 13
    assert Ledger(path, "gpu").bytes_for(MODEL) == 9
    ledger.loaded(MODEL, 11, took_s=3.5)

    assert ledger.bytes_for(MODEL) == 11


def test_the_file_is_for_its_owner_alone_and_nothing_else_is_left_beside_it(path: Path) -> None:
    umask = os.umask(0)
    try:
        Ledger(path, "gpu").loaded(MODEL, 7, took_s=3.5)
    finally:
        os.umask(umask)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert json.loads(path.read_text()) == {
        "gpu": {"weights/16384/2": {"loaded_bytes": 7, "load_s": 3.5, "peak_bytes": None}}
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"gpu": 7}',
        b'{"gpu": {"a": 7}}',
        b'{"gpu": {"a": {"loaded_bytes": 7}}}',
        b'{"gpu": {"a": {"loaded_bytes": -1, "peak_bytes": null, "load_s": null}}}',
        b'{"gpu": {"a": {"loaded_bytes": true, "peak_bytes": null, "load_s": null}}}',
        b'{"gpu": {"a": {"loaded_bytes": 7, "peak_bytes": null, "load_s": "3"}}}',
    ],
)
def test_a_broken_file_is_set_aside_with_one_line_in_the_log(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    ledger = Ledger(path, "gpu")
    ledger.loaded(MODEL, 7, took_s=3.5)

    assert len(caplog.records) == 1
    assert str(path.parent) not in caplog.text
    assert path.with_name("ledger.json.unreadable").read_bytes() == content
    assert Ledger(path, "gpu").bytes_for(MODEL) == 7


def test_what_cannot_be_read_at_all_is_set_aside_too(path: Path) -> None:
    path.mkdir(parents=True)

    Ledger(path, "gpu").loaded(MODEL, 7, took_s=3.5)

    assert Ledger(path, "gpu").bytes_for(MODEL) == 7


def test_a_folder_that_cannot_be_written_costs_the_measurement_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    ledger = Ledger(tmp_path / "state" / "ledger.json", "gpu")
    caplog.clear()

    ledger.loaded(MODEL, 7, took_s=3.5)

    assert ledger.bytes_for(MODEL) == 7
    assert len(caplog.records) == 1


# Peaks and load times.


def test_what_it_held_while_it_served_counts_more_than_what_its_load_took(path: Path) -> None:
    ledger = Ledger(path, "gpu")
    ledger.loaded(MODEL, 7, took_s=3.5)
    ledger.peaked(MODEL, 10)
    ledger.peaked(MODEL, 8)
    assert ledger.bytes_for(MODEL) == 10

    ledger.loaded(MODEL, 6, took_s=3.5)

    assert Ledger(path, "gpu").bytes_for(MODEL) == 10
    assert Ledger(path, "gpu").figures(MODEL).measured_bytes == 10


def test_a_load_that_could_not_be_told_apart_is_timed_all_the_same(path: Path) -> None:
    ledger = Ledger(path, "gpu")
    ledger.loaded(MODEL, None, took_s=4)

    assert ledger.figures(MODEL) == Figures(predicted_bytes=9, measured_bytes=None, load_s=4)
    assert ledger.bytes_for(MODEL) == 9


def test_a_model_that_was_never_loaded_is_thought_to_load_as_fast_as_the_others(path: Path) -> None:
    ledger = Ledger(path, "gpu")
    other = ModelSpec("other", "llm", estimate_bytes=6)
    assert ledger.figures(other).load_s is None

    ledger.loaded(MODEL, 9, took_s=3)

    assert ledger.figures(other).load_s == pytest.approx(2)


# Predictions from files.


def checkpoint(folder: Path, shape: tuple[int, ...] = (1_000_000,)) -> Files:
    folder.mkdir(exist_ok=True)
    header = json.dumps({"a": {"dtype": "BF16", "shape": shape, "data_offsets": [0, 2 * shape[0]]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (folder / "config.json").write_text("{}")
    return Files("transformers", (folder / "model.safetensors",), folder / "config.json")


def test_the_files_are_believed_before_the_estimate_and_a_measurement_before_the_files(path: Path) -> None:
    files = checkpoint(path.parents[1] / "weights")
    model = ModelSpec("llm", "llm", estimate_bytes=9, files=files)
    ledger = Ledger(path, "gpu")
    ledger.predict([model])
    predicted_bytes = 2_000_000 + WORKING_BYTES["transformers"]
    assert ledger.bytes_for(model) == predicted_bytes

    ledger.loaded(model, 7, took_s=1)

    assert ledger.bytes_for(model) == 7
    assert ledger.figures(model) == Figures(predicted_bytes, measured_bytes=7, load_s=1)


def test_weights_that_arrive_later_are_looked_at_then(path: Path) -> None:
    folder = path.parents[1] / "weights"
    model = ModelSpec(
        "llm", "llm", 9, files=Files("transformers", (folder / "model.safetensors",), folder / "config.json")
    )
    ledger = Ledger(path, "gpu")
    ledger.predict([model])
    assert ledger.bytes_for(model) == 9

    checkpoint(folder)
    ledger.predict([model])

    assert ledger.bytes_for(model) > 9
