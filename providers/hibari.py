"""Speech synthesis with hibari: small English voices that run on the CPU.

Only voices whose file is already there are offered: the package would fetch the others when they are first used.
"""

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from llmux.config import Model
from llmux.errors import InvalidRequest
from providers.reading import plain
from providers.runtime import Clip, Samples
from providers.sentences import pieces
from providers.splice import PAUSE_S, silence, spliceable, stretched
from providers.worker import Cancelled, Worker

FASTEST = 2.0
"""Beyond this the voice swallows syllables, having a shortest length for each sound: the rest is done to its sound."""

_LONGEST = 400
"""Phonemes that are spoken at one time. Time and memory grow with the square of it."""

_LONG_NUMBER = re.compile(r"\d(?:,?\d){15,}")
"""So many digits are said one by one: from 37 on, hibari 0.2.1 knows no word for them and fails."""


class HibariSpeech:
    """A SpeechRuntime. `options` may hold `seed`: equal requests with equal seeds sound equal."""

    clones = False

    def __init__(self, worker: Worker, voices: Mapping[str, Any], default: str) -> None:
        self.voices: Sequence[str] = tuple(voices)
        self.sample_rate: int = voices[default].sample_rate
        self._worker = worker
        self._voices = {**voices, "default": voices[default]}

    async def synthesize(
        self, text: str, *, voice: str | Clip, speed: float, options: Mapping[str, Any]
    ) -> AsyncGenerator[Samples, None]:
        seed, language = options.get("seed"), options.get("language")
        if seed is not None and not (isinstance(seed, int) and seed >= 0):
            raise InvalidRequest("seed must be a whole number from 0 on", param="seed")
        if language is not None and str(language).lower()[:2] != "en":
            raise InvalidRequest(f"the language {language!r} is not available; there is en", param="language")
        for name in options.keys() - {"seed", "language"}:
            raise InvalidRequest(f"{name}: this model takes seed only", param=name)
        assert isinstance(voice, str)
        noise = np.random.default_rng(seed)
        said = pieces(_LONG_NUMBER.sub(lambda number: " ".join(re.findall(r"\d", number[0])), plain(text, "en")))
        jobs = (partial(self._speak, piece, voice, speed, noise, number) for number, piece in enumerate(said))
        silent = True
        async with aclosing(self._worker.turns(jobs)) as takes:
            async for take in takes:
                if len(take):
                    silent = False
                    yield take
        if silent:
            yield silence(self.sample_rate)

    def _speak(self, piece: str, name: str, speed: float, noise: Any, number: int, cancelled: Cancelled) -> Samples:
        voice = self._voices[name]
        own_speed = min(speed, FASTEST)
        said = []
        for phonemes in voice.phonemize(piece):
            for part in breaths(phonemes, _LONGEST):
                if cancelled.is_set():
                    break
                said.append(voice.from_ids(voice.ids(part), own_speed, noise))
        sound: Samples = np.concatenate(said) if said else np.zeros(0, dtype=np.float32)
        if not len(sound):
            return sound
        pause_s = PAUSE_S / speed if number else 0.0
        return spliceable(stretched(sound, self.sample_rate, speed / own_speed), self.sample_rate, pause_s=pause_s)

    async def close(self) -> None:
        self._voices.clear()
        await self._worker.close()


async def load(model: Model, folder: Path) -> HibariSpeech:
    """All voices that are on this machine. They are in hibari's own package and cache: `folder` is not looked at."""
    worker = Worker("hibari")
    try:
        return await worker.run(lambda _: _load(worker))
    except BaseException:
        await worker.close()
        raise


def voices(clips: Mapping[str, Clip]) -> Sequence[str]:
    """The voices that are on this machine. It takes over none."""
    return _here()


def _here() -> Sequence[str]:
    from hibari.voices import VOICES, voice_path

    def is_here(name: str) -> bool:
        try:
            voice_path(name, download_missing=False)
        except FileNotFoundError:
            return False
        return True

    return tuple(name for name in VOICES if is_here(name))


def _load(worker: Worker) -> HibariSpeech:
    from hibari import Hibari
    from hibari.g2p import G2P
    from hibari.voices import DEFAULT, VOICES

    pronunciation = cache(lambda british: G2P(british=british))
    loaded = {name: Hibari(voice=name, g2p=pronunciation(VOICES[name]["british"])) for name in _here()}
    loaded[DEFAULT]("Ready.")  # the first sentence of all is ten times slower
    return HibariSpeech(worker, loaded, DEFAULT)


def breaths(phonemes: str, longest: int) -> Iterator[str]:
    """Parts of at most `longest` phonemes, cut between words where there are any."""
    while len(phonemes) > longest:
        cut = phonemes.rfind(" ", 1, longest + 1)
        if cut < 0:
            cut = longest
        yield phonemes[:cut]
        phonemes = phonemes[cut:].lstrip(" ")
    if phonemes:
        yield phonemes
