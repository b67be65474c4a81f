import struct
from typing import Any

import pytest

from demo.round_trip import Clock, StepFailed, check_eviction, lost_words, seconds_of


def health(*models: str) -> dict[str, Any]:
    return {"loaded_models": dict.fromkeys(models)}


def wav(seconds: float, rate: int = 24_000) -> bytes:
    size = int(seconds * rate) * 2
    header = b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16) + b"data" + struct.pack("<I", 0xFFFFFFFF)
    return header + bytes(size)


def test_a_streamed_wav_is_measured_by_its_size() -> None:
    assert seconds_of(wav(1.5)) == pytest.approx(1.5)


@pytest.mark.parametrize("sound", [b"", b"{}", wav(0)])
def test_what_is_no_sound_fails_the_step(sound: bytes) -> None:
    with pytest.raises(StepFailed, match="not a WAV"):
        seconds_of(sound)


def test_key_words_are_found_whatever_their_case() -> None:
    assert not lost_words("on monday we met, in LONDON")
    assert lost_words("On Sunday we met in London.") == {"monday"}


def test_the_clock_notes_the_first_part_alone() -> None:
    clock = Clock()
    parts = clock.timed(["a", "b"])

    assert next(parts) == "a"
    first_byte_s = clock.first_byte_s
    assert list(parts) == ["b"]
    assert 0 < clock.first_byte_s == first_byte_s <= clock.total_s


def test_the_run_must_evict_the_speech_alone() -> None:
    check_eviction([health(), health("hibari"), health("hibari", "whisper"), health("whisper", "smollm2")])


@pytest.mark.parametrize(
    "last", [health("hibari", "whisper", "smollm2"), health("hibari", "smollm2"), health("smollm2")]
)
def test_no_eviction_or_another_one_fails(last: dict[str, Any]) -> None:
    with pytest.raises(StepFailed, match="expected one eviction"):
        check_eviction([health(), health("hibari"), health("hibari", "whisper"), last])
