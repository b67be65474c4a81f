import io
import wave

import pytest

from acceptance.recording import SPOKEN, Language, wav


@pytest.mark.parametrize("language", ["en", "de"])
def test_it_is_some_seconds_of_sound_the_same_each_time(language: Language) -> None:
    with wave.open(io.BytesIO(wav(language))) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        assert 2 < sound.getnframes() / sound.getframerate() < 8
    assert wav(language) == wav(language)


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_words_that_matter_are_said(language: Language) -> None:
    speech = SPOKEN[language]
    assert all(word in speech.text.lower() for word in speech.words)
