from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.runtime import Samples
from providers.vad import FRAME, Probabilities
from providers.window import LONGEST, Cutter, Window, speech_runs, windows

FRAME_S = FRAME / 16_000


def frames(seconds: float) -> int:
    return round(seconds / FRAME_S)


def cut(*parts: tuple[float, float], at_a_time: int = 1_000) -> list[Window]:
    """The windows of a recording of (seconds, probability of speech) parts. Each frame's samples are its number."""
    probability = np.concatenate([np.full(frames(seconds), p, np.float32) for seconds, p in parts])
    return pushed(probability, at_a_time)


def pushed(probability: Probabilities, at_a_time: int) -> list[Window]:
    samples = np.repeat(np.arange(len(probability), dtype=np.float32), FRAME)
    cutter = Cutter()
    found = []
    for at in range(0, len(probability), at_a_time):
        found += cutter.push(samples[at * FRAME : (at + at_a_time) * FRAME], probability[at : at + at_a_time])
    return found + cutter.finish()


def test_speech_with_a_breath_in_it_is_one_window_with_a_margin_round_it() -> None:
    [window] = cut((5, 0.1), (4, 0.9), (1, 0.1), (3, 0.9), (6, 0.1))

    assert window.start_s == pytest.approx(5 - 0.3, abs=FRAME_S)
    assert len(window.samples) / 16_000 == pytest.approx(8.6, abs=2 * FRAME_S)
    assert window.speech_start_s == pytest.approx(5, abs=FRAME_S)
    assert window.speech_end_s == pytest.approx(13, abs=FRAME_S)
    assert window.samples[0] == round(window.start_s / FRAME_S)


def test_a_long_pause_ends_a_window() -> None:
    first, second = cut((4, 0.9), (3.5, 0.1), (2, 0.9))

    assert first.speech_end_s == pytest.approx(4, abs=FRAME_S)
    assert second.speech_start_s == pytest.approx(7.5, abs=FRAME_S)


def test_silence_has_no_window() -> None:
    assert cut((600, 0.1)) == []


def test_a_click_is_no_speech() -> None:
    assert cut((2, 0.1), (0.1, 0.9), (10, 0.1), (0.1, 0.9)) == []


def test_long_speech_is_cut_in_the_longest_pause_of_the_last_five_seconds() -> None:
    first, second = cut((20, 0.9), (1, 0.1), (5, 0.9), (0.2, 0.1), (1.5, 0.9), (0.8, 0.1), (11.5, 0.9))

    assert second.start_s == pytest.approx(28.1, abs=0.12)
    assert first.speech_end_s == pytest.approx(27.7, abs=0.12)
    assert second.speech_start_s == pytest.approx(28.5, abs=0.12)


def test_speech_without_any_pause_is_cut_where_it_is_quietest() -> None:
    cutter = Cutter()
    sound = np.ones((frames(40), FRAME), np.float32)
    sound[frames(27) : frames(27.2)] = 0.1
    windows = cutter.push(sound.reshape(-1), np.full(len(sound), 0.9, np.float32)) + cutter.finish()

    assert [window.start_s for window in windows] == [0.0, pytest.approx(27.1, abs=3 * FRAME_S)]
    assert sum(len(window.samples) for window in windows) == sound.size


def test_doubtful_sound_goes_on_as_it_was() -> None:
    doubtful_after_speech = np.array([0.9] * 10 + [0.4] * 10 + [0.1] * 10, np.float32)
    doubtful_before_speech = np.array([0.1] * 10 + [0.4] * 10 + [0.9] * 10, np.float32)

    assert speech_runs(doubtful_after_speech, speaking=False, ended=True) == [(0, 20)]
    assert speech_runs(doubtful_before_speech, speaking=False, ended=True) == [(20, 30)]
    assert speech_runs(np.full(10, 0.4, np.float32), speaking=True, ended=True) == [(0, 10)]


parts = st.lists(st.tuples(st.floats(0.1, 40), st.sampled_from([0.05, 0.4, 0.95])), min_size=1, max_size=8)


@settings(deadline=None, max_examples=30)
@given(parts, st.integers(30, 400))
def test_it_does_not_matter_how_the_recording_comes(of: Sequence[tuple[float, float]], at_a_time: int) -> None:
    one, other = cut(*of, at_a_time=at_a_time), cut(*of, at_a_time=37)

    assert [(w.start_s, len(w.samples), w.speech_start_s, w.speech_end_s) for w in one] == [
        (w.start_s, len(w.samples), w.speech_start_s, w.speech_end_s) for w in other
    ]


@settings(deadline=None)
@given(parts)
def test_every_word_is_in_one_window_none_is_too_long_and_none_overlap(of: Sequence[tuple[float, float]]) -> None:
    found = cut(*of)

    assert all(0 < len(window.samples) <= LONGEST * FRAME for window in found)
    ends_s = [window.start_s + len(window.samples) / 16_000 for window in found]
    assert all(end_s <= after.start_s + 1e-6 for end_s, after in zip(ends_s, found[1:], strict=False))
    assert all(
        window.start_s <= window.speech_start_s < window.speech_end_s <= end_s + 1e-6
        for window, end_s in zip(found, ends_s, strict=True)
    )
    at_s = 0.0
    for seconds, p in of:
        middle_s = at_s + frames(seconds) * FRAME_S / 2
        if p > 0.5 and seconds > 0.5:
            assert any(w.start_s <= middle_s <= end_s for w, end_s in zip(found, ends_s, strict=True))
        at_s += frames(seconds) * FRAME_S


SECONDS = 20
TIME_S = np.arange(SECONDS * 16_000) / 16_000
CHANCE = np.random.default_rng(0)


def melody() -> Samples:
    """Notes of a plucked string, two in each second."""
    note_s = np.arange(8_000) / 16_000
    notes = [
        sum(np.sin(2 * np.pi * pitch * k * note_s) / k for k in (1, 2, 3)) * np.exp(-4 * note_s) * 0.2
        for pitch in CHANCE.choice([220, 247, 262, 294, 330, 349, 392, 440], 2 * SECONDS)
    ]
    return np.concatenate(notes).astype(np.float32)


def chords() -> Samples:
    note_s = np.arange(16_000) / 16_000
    played = [
        sum(np.sin(2 * np.pi * pitch * ratio * note_s) for ratio in (1, 1.26, 1.5)) * 0.08
        for pitch in CHANCE.choice([220, 262, 294, 330], SECONDS)
    ]
    return np.concatenate(played).astype(np.float32)


NO_SPEECH = {
    "silence": np.zeros(SECONDS * 16_000),
    "white noise": CHANCE.normal(scale=0.1, size=SECONDS * 16_000),
    "quiet noise": CHANCE.normal(scale=0.001, size=SECONDS * 16_000),
    "rumble": np.cumsum(CHANCE.normal(size=SECONDS * 16_000)) / 1_000,
    "mains hum": 0.3 * np.sin(2 * np.pi * 50 * TIME_S) + 0.1 * np.sin(2 * np.pi * 150 * TIME_S),
    "a melody": melody(),
    "chords": chords(),
}


@pytest.mark.parametrize("sound", NO_SPEECH.values(), ids=NO_SPEECH)
def test_what_is_no_voice_has_no_window(sound: Samples) -> None:
    assert [window for found in windows([sound.astype(np.float32)]) for window in found] == []


def test_spoken_words_are_found_in_a_noisy_recording() -> None:
    from hibari import Hibari

    from providers.audio import resample

    speech = resample(Hibari()("The meeting in London has been moved to Monday.", seed=1), 24_000, 16_000)
    noise = np.random.default_rng(0).normal(scale=0.003, size=30 * 16_000).astype(np.float32)
    noise[16_000 * 12 : 16_000 * 12 + len(speech)] += speech

    def pieces() -> Iterator[Samples]:
        for at in range(0, len(noise), 100 * FRAME):
            yield noise[at : at + 100 * FRAME]

    [window] = [window for found in windows(pieces()) for window in found]

    assert 12.0 <= window.speech_start_s <= 12.6
    assert window.speech_end_s == pytest.approx(12 + len(speech) / 16_000, abs=0.6)
