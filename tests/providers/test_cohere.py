from pathlib import Path

import numpy as np
import pytest

from providers.batch import Row
from providers.cohere import Cohere
from providers.recognizer import Sound
from tests import checkpoints


@pytest.fixture(scope="module")
def cohere(tmp_path_factory: pytest.TempPathFactory) -> Cohere:
    folder: Path = tmp_path_factory.mktemp("cohere")
    checkpoints.write_cohere(folder)
    return Cohere(folder)


def row(seconds: float, language: str = "en", temperature: float = 0.0, *, seed: int = 0) -> Row[Sound]:
    samples = np.random.default_rng(seed).normal(scale=0.1, size=int(seconds * 16_000)).astype(np.float32)
    return Row(Sound(samples, language, None, temperature, words=False))


def test_it_knows_its_languages_and_must_be_told_one(cohere: Cohere) -> None:
    assert cohere.languages == checkpoints.COHERE_LANGUAGES
    assert not cohere.detects_language


def test_only_sounds_of_one_language_and_temperature_are_heard_together(cohere: Cohere) -> None:
    assert cohere.alike(row(1).job) == cohere.alike(row(2).job)
    assert cohere.alike(row(1).job) != cohere.alike(row(1, "de").job)
    assert cohere.alike(row(1).job) != cohere.alike(row(1, temperature=0.5).job)


def test_each_sound_of_a_batch_is_one_segment_as_long_as_it_is(cohere: Cohere) -> None:
    heard = cohere.hear([row(3), row(5)])

    assert [(found.taken, len(found.segments)) for found in heard] == [(48_000, 1), (80_000, 1)]
    assert [found.segments[0].end_s for found in heard] == [3.0, 5.0]
    assert heard[0] == cohere.hear([row(3)])[0]


def test_each_sound_of_a_batch_is_heard_as_if_it_were_alone(cohere: Cohere) -> None:
    seconds = (3, 1, 5, 2, 4, 0.5, 1, 3)
    alone = [cohere.hear([row(length, seed=seed)])[0] for seed, length in enumerate(seconds)]

    assert cohere.hear([row(length, seed=seed) for seed, length in enumerate(seconds)]) == alone
    assert len({found.segments[0].text for found in alone}) > 4
    assert alone[0].segments[0].text != cohere.hear([row(3, "de")])[0].segments[0].text


def test_whoever_left_a_batch_is_not_decoded_for(cohere: Cohere) -> None:
    left = row(3)
    left.cancelled.set()

    nothing, something = cohere.hear([left, row(3)])

    assert sum(len(segment.text.split()) for segment in nothing.segments) <= 1
    assert len(something.segments[0].text.split()) > 1
