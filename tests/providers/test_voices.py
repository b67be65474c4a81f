import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from providers import voices
from providers.runtime import Clip


def record(path: Path, seconds: float = 7.0) -> Path:
    sound = 0.1 * np.random.default_rng(0).normal(size=int(seconds * 16_000))
    soundfile.write(path, sound, 16_000)
    return path


def test_a_recording_is_a_voice_by_its_name(tmp_path: Path) -> None:
    for name in ("anna.wav", "Bob.mp3", "carl.flac"):
        record(tmp_path / name)

    assert list(voices.read(tmp_path)) == ["Bob", "anna", "carl"]
    assert voices.read(tmp_path)["anna"] == Clip("anna", str(tmp_path / "anna.wav"))


def test_a_name_may_say_the_language(tmp_path: Path) -> None:
    record(tmp_path / "anna.de.wav")

    assert voices.read(tmp_path)["anna"].language == "de"


def test_no_folder_is_no_voices(tmp_path: Path) -> None:
    assert voices.read(tmp_path / "none") == {}


def test_notes_and_hidden_files_are_passed_over_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".keep").touch()
    (tmp_path / "SOURCES.txt").touch()

    assert voices.read(tmp_path) == {}
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "seconds", "why"),
    [
        ("short.wav", 3.0, "3.0 s long"),
        ("long.wav", 61.0, "too long"),
        ("a b.wav", 7.0, "letters"),
        ("default.wav", 7.0, "taken"),
    ],
)
def test_what_is_no_voice_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, seconds: float, why: str
) -> None:
    record(tmp_path / name, seconds)

    assert voices.read(tmp_path) == {}
    assert why in caplog.text
    assert str(tmp_path) not in caplog.text


def test_a_file_that_is_no_recording_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "fake.wav").write_text("#!EXTM3U\n/etc/passwd")
    (tmp_path / "photo.png").write_bytes(b"png")

    assert voices.read(tmp_path) == {}
    assert "fake.wav" in caplog.text
    assert "photo.png" in caplog.text


def test_two_recordings_of_one_name_are_one_voice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(tmp_path / "anna.de.wav")
    record(tmp_path / "anna.wav")

    assert voices.read(tmp_path)["anna"].language == "de"
    assert "taken" in caplog.text


def test_no_link_leads_out_of_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = record(tmp_path / "outside.wav")
    folder = tmp_path / "voices"
    folder.mkdir()
    (folder / "spy.wav").symlink_to(outside)
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "up.wav").symlink_to("..")
    (folder / "round.wav").symlink_to("round.wav")

    assert voices.read(folder) == {}
    assert caplog.text.count("leads out") == 1
    assert caplog.text.count("no file") == 3


def test_a_huge_file_is_not_even_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "anna.wav").open("wb") as file:
        file.truncate(10**10)  # a hole
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))

    assert voices.read(tmp_path) == {}
    assert "larger than 100 MB" in caplog.text


def test_what_is_no_file_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "two\nlines.wav").touch()

    assert voices.read(tmp_path) == {}
    assert [record.getMessage().count("\n") for record in caplog.records] == [0, 0, 0]


def test_a_folder_that_is_a_link_itself_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    record(tmp_path / "real" / "anna.wav")
    (tmp_path / "voices").symlink_to(tmp_path / "real")

    assert list(voices.read(tmp_path / "voices")) == ["anna"]
