"""Word error rate: how many words of a text are wrong, missing or too many in what was heard."""

import re
import unicodedata
from collections.abc import Sequence


def normal(text: str) -> list[str]:
    """The words, without case, accents and punctuation; "good-bye" is two, "it's" is one."""
    plain = unicodedata.normalize("NFKD", text.lower()).replace("\u2019", "'")
    return re.findall(r"[a-z0-9']+", "".join(letter for letter in plain if not unicodedata.combining(letter)))


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """The fewest words to change, add or leave out that turn one into the other (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for index, word in enumerate(said, 1):
        diagonal, row[0] = row[0], index
        for place, other in enumerate(heard, 1):
            diagonal, row[place] = row[place], min(diagonal + (word != other), row[place] + 1, row[place - 1] + 1)
    return row[-1]


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Of all texts together, in percent. pairs: what was said and what was heard"""
    said = [normal(text) for text, _ in pairs]
    errors = sum(word_errors(text, normal(heard)) for text, (_, heard) in zip(said, pairs, strict=True))
    return 100 * errors / sum(len(text) for text in said)
