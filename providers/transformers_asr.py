"""Speech recognition through transformers: Whisper, and Cohere's Transcribe.

A recording is heard in steps of at most 30 s, so that the first segments leave early, memory does not grow with it, and
a cancelled request ends at the next decoding step. Steps of several recordings are done in one batch.
"""

import gc
import importlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from llmux.config import Model
from llmux.errors import InvalidRequest, LoadFailed
from providers.batch import Batches
from providers.recognizer import SAMPLE_RATE, Heard, Recognizer, Sound
from providers.runtime import Samples, Segment, Word
from providers.worker import Cancelled, Worker

_STEP = 30 * SAMPLE_RATE
"""How much is heard at one time."""

_SHORTEST = SAMPLE_RATE // 10
"""Less holds no word, and a model would make one up."""

_MOST = 8
"""Steps in a batch. Decoding is bound by memory: the weights are read once for all of them."""

_FAMILIES: Mapping[str, str] = {"whisper": "providers.whisper", "cohere_asr": "providers.cohere"}
"""Each offers `def load(folder) -> Recognizer`."""


class TransformersTranscription:
    """A TranscriptionRuntime over one of the model families that this module knows."""

    sample_rate = SAMPLE_RATE

    def __init__(self, worker: Worker, recognizer: Recognizer, default_language: str | None) -> None:
        self.languages = recognizer.languages
        self.tells_words = recognizer.tells_words
        self._detects_language = recognizer.detects_language
        self._default_language = default_language
        self._worker = worker
        self._batches: Batches[Sound, Heard] | None = Batches(
            worker, recognizer.hear, alike=recognizer.alike, most=_MOST
        )

    async def transcribe(
        self, samples: Samples, *, language: str | None, prompt: str | None, temperature: float, words: bool = False
    ) -> AsyncGenerator[Segment, None]:
        assert self._batches is not None, "closed"
        language = language or self._default_language
        if language is None and not self._detects_language:
            raise InvalidRequest(
                f"this model needs to be told the language: one of {', '.join(self.languages)}", param="language"
            )
        at = 0
        while len(samples) - at >= _SHORTEST:
            sound = Sound(samples[at : at + _STEP], language, prompt, temperature, words)
            heard = await self._batches.submit(sound)
            for segment in heard.segments:
                language = segment.language  # what the first words were in holds for the rest
                yield later(segment, at / SAMPLE_RATE)
            at += heard.taken

    async def close(self) -> None:
        self._batches = None
        await self._worker.run(_free)
        await self._worker.close()


def later(segment: Segment, by_s: float) -> Segment:
    """The same, said so much later."""
    words = tuple(Word(word.start_s + by_s, word.end_s + by_s, word.text) for word in segment.words)
    return replace(segment, start_s=segment.start_s + by_s, end_s=segment.end_s + by_s, words=words)


async def load(model: Model, folder: Path) -> TransformersTranscription:
    """The model in `folder`, on the GPU where there is one. Raises LoadFailed for a family that is not known."""
    family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if family not in _FAMILIES:
        raise LoadFailed(f"speech recognition needs a model of type {' or '.join(_FAMILIES)}, and this is {family!r}")
    worker = Worker(folder.name)
    try:
        recognizer = await worker.run(lambda _: _build(family, folder, model.default_language))
    except BaseException:
        await worker.close()
        raise
    return TransformersTranscription(worker, recognizer, model.default_language)


def _build(family: str, folder: Path, default_language: str | None) -> Recognizer:
    from transformers.utils import logging

    logging.disable_progress_bar()  # a server's log is no terminal
    recognizer = cast(Recognizer, importlib.import_module(_FAMILIES[family]).load(folder))
    if default_language is not None and default_language not in recognizer.languages:
        raise LoadFailed(
            f"default_language {default_language!r} is not one that this model knows; "
            f"it knows {', '.join(recognizer.languages)}"
        )
    return recognizer


def _free(_: Cancelled) -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
