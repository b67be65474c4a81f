import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.runtime import Samples
from providers.splice import PAUSE_S, silence, spliceable, steps, stretched

RATE = 24_000
TONE = (0.5 * np.sin(2 * np.pi * 220 * np.arange(2 * RATE) / RATE)).astype(np.float32)


def pitch(samples: Samples) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * RATE / len(samples))


@pytest.mark.parametrize("speed", [0.25, 0.4, 0.5, 0.9, 1.5, 2.0, 3.0, 4.0])
def test_another_speed_changes_the_length_and_neither_pitch_nor_loudness(speed: float) -> None:
    sound = stretched(TONE, RATE, speed)

    assert len(sound) == pytest.approx(len(TONE) / speed, rel=0.02)
    assert pitch(sound) == pytest.approx(220, abs=2)
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(np.sqrt(np.mean(TONE**2)), rel=0.05)


def test_normal_speed_changes_nothing() -> None:
    assert stretched(TONE, RATE, 1.0) is TONE


@given(st.floats(0.25, 4.0))
def test_no_step_is_more_than_a_factor_of_two(speed: float) -> None:
    tempos = list(steps(speed))

    assert all(0.5 <= tempo <= 2.0 for tempo in tempos)
    assert np.prod(tempos) == pytest.approx(speed)


def test_a_piece_begins_and_ends_at_zero_and_comes_after_a_pause() -> None:
    piece = spliceable(np.ones(RATE, dtype=np.float32), RATE, pause_s=PAUSE_S)

    assert piece[-1] == 0
    assert np.max(np.abs(np.diff(piece))) < 0.02
    assert len(piece) == RATE + int(PAUSE_S * RATE)
    assert not piece[:-RATE].any()
    assert piece[-RATE] == 0
    assert piece.dtype == np.float32


@pytest.mark.parametrize("length", [0, 1, 2, 50])
def test_the_shortest_sound_is_a_piece_too(length: int) -> None:
    assert len(spliceable(np.ones(length, dtype=np.float32), RATE, pause_s=PAUSE_S)) == length + int(PAUSE_S * RATE)


def test_numbers_that_are_none_are_silent() -> None:
    assert not spliceable(np.full(100, np.nan, dtype=np.float32), RATE, pause_s=0.0).any()


def test_silence_is_short() -> None:
    assert len(silence(RATE)) == RATE // 5
