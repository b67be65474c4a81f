"""Which language a text is in."""

from collections.abc import Sequence
from functools import cache
from typing import Any

_SURE = 0.5
"""How likely the likeliest language must be: a word or two say little."""

_NAMES = {"nb": "no", "nn": "no"}
"""What py3langid tells apart and a voice does not."""


def detected(text: str, languages: Sequence[str]) -> str | None:
    """The likeliest of these ISO 639-1 codes, or None where none is likely."""
    if len(languages) == 1:
        return languages[0]
    found, likelihood = _identifier(tuple(sorted(languages))).classify(text)
    return _NAMES.get(found, found) if likelihood >= _SURE else None


@cache
def _identifier(languages: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    wanted = {*languages, *(theirs for theirs, ours in _NAMES.items() if ours in languages)}
    identifier.set_languages(sorted(wanted & set(identifier.labels)))
    return identifier
