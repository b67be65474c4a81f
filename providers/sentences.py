"""Cuts a text into pieces that a voice can say at one time: whole sentences where they fit.

The first piece is short, because nothing is heard before it is made. Beyond about 300 characters chatterbox garbles
(issue 424 of resemble-ai/chatterbox).
"""

import re
from collections.abc import Iterator

LONGEST = 280
"""Characters of a piece."""

FIRST = 100
"""Characters of the first piece, where its first sentence is longer."""

_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[”’」』）]*|\n+")

_CLAUSE = re.compile(r"[,;:–—][\"'”’»)\]]*(?=\s)|[，、；：]")

_NO_END = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-Za-zÀ-ž]|Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|Mt|No|Nr|vs|etc|approx|ca|bzw|usw|sog|Hr|Fr|Str|"
    r"[A-Za-z]\.[A-Za-z])\.$"
)
"""A full stop after a title, an initial or an abbreviation."""


def pieces(text: str) -> list[str]:
    """At most LONGEST characters each, nothing left out but white space; empty where there is nothing to say."""
    sentences = [part for sentence in _sentences(text) for part in _cut(sentence, LONGEST)]
    if not sentences:
        return []
    first, *rest = sentences
    begun = list(_cut(first, FIRST))
    result, rest = begun[:1], [*([" ".join(begun[1:])] if begun[1:] else []), *rest]
    for sentence in rest:
        if len(result) > 1 and len(result[-1]) + 1 + len(sentence) <= LONGEST:
            result[-1] += f" {sentence}"
        else:
            result.append(sentence)
    return result


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(text):
        following = text[match.end() :].lstrip()[:1]
        goes_on = match[0][0] not in "\n。" and following.islower()
        if goes_on or (match[0].startswith(".") and _NO_END.search(text[start : match.start() + 1])):
            continue
        yield from _spaced(text[start : match.end()])
        start = match.end()
    yield from _spaced(text[start:])


def _spaced(sentence: str) -> Iterator[str]:
    sentence = " ".join(sentence.split())
    if any(character.isalnum() for character in sentence):
        yield sentence


def _cut(sentence: str, longest: int) -> Iterator[str]:
    """After a clause, else between words, else anywhere."""
    while len(sentence) > longest:
        clauses = [match.end() for match in _CLAUSE.finditer(sentence, longest // 4, longest)]
        at = clauses[-1] if clauses else sentence.rfind(" ", 1, longest + 1)
        if at <= 0:
            at = longest
        yield sentence[:at].rstrip()
        sentence = sentence[at:].lstrip()
    if sentence:
        yield sentence
