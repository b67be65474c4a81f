"""Speech synthesis with hibari: small English voices that run on the CPU.

Only voices whose file is already there are offered: the package would fetch the others when they are first used.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from llmux.config import Model
from llmux.errors import InvalidRequest
from providers.runtime import Samples
from providers.worker import Cancelled, Worker

FASTEST = 2.0
"""Beyond this the voice swallows syllables: it has a shortest length for each sound."""

_LONGEST = 400
"""Phonemes that are spoken at one time. Time and memory grow with the square of it."""

_SILENCE_S = 0.2
"""What a text without anything to pronounce sounds like."""


class HibariSpeech:
    """A SpeechRuntime. `options` may hold `seed`: equal requests with equal seeds sound equal."""

    def __init__(self, worker: Worker, voices: Mapping[str, Any], default: str) -> None:
        self.voices: Sequence[str] = tuple(voices)
        self.sample_rate: int = voices[default].sample_rate
        self._worker = worker
        self._voices = {**voices, "default": voices[default]}

    def synthesize(
        self, text: str, *, voice: str, speed: float, options: Mapping[str, Any]
    ) -> AsyncGenerator[Samples, None]:
        return self._worker.stream(lambda cancelled: self._speak(text, voice, speed, options.get("seed"), cancelled))

    def _speak(self, text: str, name: str, speed: float, seed: object, cancelled: Cancelled) -> Iterator[Samples]:
        if speed > FASTEST:
            raise InvalidRequest(f"speed: this voice speaks at most {FASTEST:g} times as fast", param="speed")
        if seed is not None and not (isinstance(seed, int) and seed >= 0):
            raise InvalidRequest("seed must be a whole number from 0 on", param="seed")
        voice = self._voices[name]
        noise = np.random.default_rng(seed)
        silent = True
        for sentence in voice.split_sentences(text):
            for phonemes in voice.phonemize(sentence):
                for part in breaths(phonemes, _LONGEST):
                    if cancelled.is_set():
                        return
                    samples: Samples = voice.from_ids(voice.ids(part), speed, noise)
                    if len(samples):
                        silent = False
                        yield samples
        if silent:
            yield np.zeros(int(_SILENCE_S * self.sample_rate), dtype=np.float32)

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


def _load(worker: Worker) -> HibariSpeech:
    from hibari import Hibari
    from hibari.g2p import G2P
    from hibari.voices import DEFAULT, VOICES, voice_path

    pronunciation = cache(lambda british: G2P(british=british))
    voices = {}
    for name, facts in VOICES.items():
        try:
            voice_path(name, download_missing=False)
        except FileNotFoundError:
            continue
        voices[name] = Hibari(voice=name, g2p=pronunciation(facts["british"]))
    voices[DEFAULT]("Ready.")  # the first sentence of all is ten times slower
    return HibariSpeech(worker, voices, DEFAULT)


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
