from pathlib import Path

import pytest

from bench import transcription
from llmux.config import load_config


def test_its_configuration_is_one_that_llmux_takes(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(transcription._CONFIG.format(models=tmp_path))

    assert list(load_config(tmp_path / "config.yaml").virtual) == ["Ears"]


def test_what_is_spoken_is_spoken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcription, "FOLDER", tmp_path)

    [spoken] = transcription.speak(["Every child sang a song."])
    written = spoken.file.stat().st_mtime_ns
    [again] = transcription.speak(["Every child sang a song."])

    assert again == spoken
    assert again.file.stat().st_mtime_ns == written
    assert 1.0 < spoken.length_s < 4.0
    [window] = transcription._cut(spoken)
    assert window.speech_end_s <= spoken.length_s


def test_parts_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        transcription.main(["--only", "nothing"])

    said = capsys.readouterr().err
    assert all(part in said for part in transcription.PARTS)
