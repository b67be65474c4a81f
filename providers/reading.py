"""What is read of a text that was written for the eye.

Markdown is read without its marks: headings, emphasis, lists (with their numbers), quotes, tables cell by cell, links
and images by their text. Code between fences is left out, unless there is nothing else. An address on the web is read
as its host, one of mail as it is said. Emoji, HTML tags and control characters are left out. Numbers, percentages, sums
of money and, in English, ordinals and years are written out, in the languages that num2words knows.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import regex
from markdown_it import MarkdownIt

_EMOJI = regex.compile(
    r"(?V1)\p{Regional_Indicator}+|[0-9#*]\uFE0F?\u20E3"
    r"|[\p{Extended_Pictographic}--[©®™‼⁉↔-↪]][\uFE0F\p{Emoji_Modifier}]*"
    r"(?:\u200D\p{Extended_Pictographic}[\uFE0F\p{Emoji_Modifier}]*)*|[\uFE0E\uFE0F]"
)

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<!--.*?-->", re.DOTALL)

_URL = re.compile(r"\b(?:https?|ftp)://[^\s<>()\"']+|\bwww\.[^\s<>()\"']+", re.IGNORECASE)

_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")

_CONTROL = regex.compile(r"(?V1)[\p{C}--[\n\t\u200C\u200D]]+")

_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {".": "dot", "@": "at", "&": "and", "%": "percent", "+": "plus", "=": "equals", "°": "degrees", "-": "minus"},
    "de": {".": "Punkt", "@": "ätt", "&": "und", "%": "Prozent", "+": "plus", "=": "gleich", "°": "Grad", "-": "minus"},
    "fr": {".": "point", "@": "arobase", "&": "et", "%": "pour cent", "+": "plus", "=": "égale", "-": "moins"},
    "es": {".": "punto", "@": "arroba", "&": "y", "%": "por ciento", "+": "más", "=": "igual a", "-": "menos"},
    "it": {".": "punto", "@": "chiocciola", "&": "e", "%": "per cento", "+": "più", "=": "uguale", "-": "meno"},
}
"""How signs are said. In other languages they stay as they are, and the voice makes of them what it can."""

_SIGNS = re.compile(r"(?<=\s)[&+=](?=\s)|(?<=\d)[&+=](?=\d)|%|°")


def plain(text: str, language: str) -> str:
    """The text without what is there for the eye alone, in lines that are said one after the other.

    language: ISO 639-1 code, by which addresses are said
    """
    text = _CONTROL.sub(" ", text)
    read = "\n".join(_blocks(text, code=False)) or "\n".join(_blocks(text, code=True))
    read = _EMOJI.sub(" ", _TAG.sub(" ", read))
    read = _URL.sub(lambda match: _address(match[0], language), read)
    return _MAIL.sub(lambda match: _said(match[0], language), read)


def in_words(text: str, language: str) -> str:
    """The text with its numbers and signs written out, as far as that language is known."""
    text = _MONEY.sub(lambda match: _money(match, language), text)
    if language == "en":
        text = _ORDINAL.sub(lambda match: _number(int(match[1]), language, to="ordinal") or match[0], text)
    text = _NUMBER.sub(lambda match: _beside_letters(match, _figures(match[0], language)), text)
    words = _WORDS.get(language, {})
    return _SIGNS.sub(lambda match: f" {words[match[0]]} " if match[0] in words else match[0], text)


@cache
def _markdown() -> MarkdownIt:
    # An indented line is a verse more often than code; tags are taken away later, wherever they stand.
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("code")


def _blocks(text: str, *, code: bool) -> Iterator[str]:
    """The text of each block, in order."""
    number = ""
    cells: list[str] | None = None
    for token in _markdown().parse(text):
        if token.type == "list_item_open" and token.info:
            number = f"{token.info}{token.markup} "
        elif token.type == "tr_open":
            cells = []
        elif token.type == "tr_close":
            yield ", ".join(cells or ()) + "."
            cells = None
        elif token.type == "fence" and code:
            yield token.content
        elif token.type == "inline":
            line = number + "".join(_inline(token.children or []))
            number = ""
            if cells is None:
                yield line
            else:
                cells.append(line)


def _inline(tokens: Sequence[Any]) -> Iterator[str]:
    for token in tokens:
        if token.type in ("text", "code_inline"):
            yield token.content
        elif token.type in ("softbreak", "hardbreak"):
            yield "\n" if token.type == "hardbreak" else " "
        elif token.type == "image":
            yield from _inline(token.children or [])


def _address(url: str, language: str) -> str:
    bare = url.rstrip(".,;:!?")
    try:
        host = urlsplit(bare if "://" in bare else f"//{bare}").hostname or ""
    except ValueError:
        host = ""
    return _said(host.removeprefix("www."), language) + url[len(bare) :]


def _said(address: str, language: str) -> str:
    words = _WORDS.get(language, {})
    return "".join(f" {words[sign]} " if sign in ".@" and sign in words else sign for sign in address)


_DIGITS = r"\d+(?:[.,'\u00a0\u202f]\d+)*"

_NUMBER = re.compile(rf"(?:(?<![\w.,])[-−])?{_DIGITS}")

_ORDINAL = re.compile(r"\b(\d{1,9})(?:st|nd|rd|th)\b")

_CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP"}

_MONEY = re.compile(rf"([$€£])\s?({_DIGITS})(?!\s?(?:k|m|bn|million|billion)\b)|({_DIGITS})\s?([$€£])")

_NO_CENTS = re.compile(r"(?:,| and| und| et| y| con| e) (?:zero|null|zéro|cero) \w+$")

_POINT = {"en": ".", "zh": ".", "ja": ".", "ko": ".", "he": ".", "hi": ".", "ms": ".", "sw": "."}
"""What stands before the decimals; a comma in all other languages."""

_LONGEST_NUMBER = 15
"""Digits. Beyond that, as with a leading zero, they are said one by one."""


def _figures(written: str, language: str) -> str:
    """A number, or several that belong together, as in 3.14, 1,250, 192.168.0.1 or 2024."""
    negative, digits = written[0] in "-−", written.lstrip("-−")
    value = _value(digits, language)
    if value is None:
        return ", ".join(_figures(part, language) for part in re.split(r"\D", digits))
    if isinstance(value, int) and (len(digits) > _LONGEST_NUMBER or (digits[0] == "0" and len(digits) > 1)):
        said = " ".join(_number(int(digit), language) or digit for digit in re.findall(r"\d", digits))
    elif language == "en" and re.fullmatch(r"1[1-9]\d\d|20\d\d", digits):
        said = _number(value, language, to="year")
    else:
        said = _number(value, language)
    minus = _WORDS.get(language, {}).get("-", "-")
    if not said:
        return written
    return f"{minus} {said}" if negative else said


def _beside_letters(match: re.Match[str], said: str) -> str:
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return f"{' ' * before.isalpha()}{said}{' ' * after.isalpha()}"


def _value(digits: str, language: str) -> int | float | None:
    """None for what is no single number."""
    point = _POINT.get(language, ",")
    groups = "[,'\u00a0\u202f]" if point == "." else "[.'\u00a0\u202f]"
    whole, _, decimals = digits.partition(point)
    if re.fullmatch(rf"\d{{1,3}}(?:{groups}\d{{3}})+|\d+", whole) and (not decimals or decimals.isdigit()):
        whole = re.sub(r"\D", "", whole)
        return float(f"{whole}.{decimals}") if decimals else int(whole)
    return None


def _money(match: re.Match[str], language: str) -> str:
    sign, digits = match[1] or match[4], match[2] or match[3]
    value = _value(digits, language)
    said = _number(value, language, to="currency", currency=_CURRENCIES[sign]) if value is not None else ""
    return _NO_CENTS.sub("", said) or match[0]


def _number(value: float, language: str, **how: Any) -> str:
    """Empty where the language, or this form in it, is not known."""
    try:
        convert: Callable[..., str] = _num2words()
        if how.get("to") == "currency":
            value = float(value)  # a whole number would be taken for cents
        return convert(value, lang=language, **how)
    except (NotImplementedError, ArithmeticError, LookupError, TypeError, ValueError):
        return ""


@cache
def _num2words() -> Callable[..., str]:
    from num2words import num2words

    return num2words  # type: ignore[no-any-return]
