"""When each word was said, by where in the sound Whisper's decoder looked for each of its tokens.

Dynamic time warping over the cross-attention of a few heads, as in OpenAI's whisper/timing.py.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_SMOOTHED_OVER = 7
"""Frames of the median filter, as in OpenAI's."""

Weights = npt.NDArray[np.float32]


def align(attention: Weights) -> list[int]:
    """The frame at which each row begins: rising, the first 0.

    attention: shape (heads, rows, frames), each row's weights over the frames
    """
    spread = attention.std(axis=1, keepdims=True)
    normal = (attention - attention.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-6)
    return path(-smoothed(normal).mean(axis=0))


def smoothed(weights: Weights) -> Weights:
    """The running median over the last axis."""
    side = _SMOOTHED_OVER // 2
    if weights.shape[-1] <= side:
        return weights
    padded = np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(side, side)], mode="reflect")
    median: Weights = np.median(np.lib.stride_tricks.sliding_window_view(padded, _SMOOTHED_OVER, axis=-1), axis=-1)
    return median


def path(cost: Weights) -> list[int]:
    """At which column each row begins, on the cheapest way from the first cell to the last that never goes back.

    cost: shape (rows, columns). A row takes one column at least; where there are too few, rows share them evenly.
    """
    rows, columns = cost.shape
    if rows > columns:
        return [row * columns // rows for row in range(rows)]
    total = np.full(rows, np.inf)
    total[0] = 0.0
    entered = np.zeros((columns, rows), bool)  # whether the way into a cell comes from the row before
    for column in range(columns):
        before = np.concatenate([[np.inf], total[:-1]])
        if column:
            entered[column] = before < total
            total = np.minimum(before, total)
        total = total + cost[:, column]
    starts, row = [0] * rows, rows - 1
    for column in range(columns - 1, 0, -1):
        if entered[column, row]:
            starts[row] = column
            row -= 1
    return starts


def grouped(tokenizer: Any, tokens: Sequence[int], language: str) -> Iterator[tuple[str, Sequence[int]]]:
    """Words, punctuation with them, and which of the tokens each is made of.

    tokenizer: transformers' WhisperTokenizer
    language: ISO 639-1; some put no spaces between words
    """
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, _combine_tokens_into_words

    words, _, indices = _combine_tokens_into_words(tokenizer, list(tokens), LANGUAGES.get(language, language))
    yield from ((word, where) for word, where in zip(words, indices, strict=True) if where)
