"""Speech to be recognised, spoken when it is needed by hibari, the small voice that is in every installation.

It is independent of the gateway's own voices, so that a fault of theirs is not taken for one of its ears. hibari speaks
English. Its sounds are enough for German, too, with an accent, where the sounds are written out: Whisper base hears
"Montag" in it when it is told that this is German, and "Montauk" when it takes it for English.
"""

import io
import wave
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

Language = Literal["en", "de"]


class Speech(NamedTuple):
    """phonemes: in hibari's alphabet, a sentence each; words: what must be heard, whatever else is"""

    text: str
    phonemes: Sequence[str]
    words: Sequence[str]


SPOKEN: dict[Language, Speech] = {
    "en": Speech(
        "On Monday the train leaves London at noon.",
        ["ˌɔn mˈʌndˌA ðə tɹˈAn lˈivz lˈʌndən æt nˈun."],
        ["monday", "london"],
    ),
    "de": Speech(
        "Guten Morgen. Am Montag fährt der Zug von Hamburg nach Berlin.",
        ["ɡˈutən mˈɔɹɡən.", "ˈam mˈOntɑk fˈɛɹt dɛɹ tsˈuk fɔn hˈɑmbʊɹk nɑx bɛɹlˈin."],
        ["morgen", "montag", "hamburg"],
    ),
}


@cache
def wav(language: Language) -> bytes:
    """The speech as a WAV file: 16 bits, one channel, the same each time."""
    from hibari import Hibari

    voice = Hibari()
    sound = np.concatenate([voice.from_phonemes(sentence, seed=1) for sentence in SPOKEN[language].phonemes])
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(voice.sample_rate)
        written.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()
