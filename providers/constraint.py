"""Answers that must match a grammar, through llguidance: which tokens may come next, for one sequence at a time.

A grammar is text in llguidance's own syntax (a variant of Lark's, with JSON schemas in it); providers/grammar.py writes
them. It speaks of bytes, which any tokens may spell, and of control tokens by their names, which nothing else spells.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import llguidance
import numpy as np
import numpy.typing as npt

from llmux.errors import InvalidRequest
from providers.runtime import TokenLogprob

_WHITE_SPACE = {"whitespace_pattern": "( |\n[ \t]{0,32})"}
"""Between the parts of JSON: as people and models write it, and an end to it."""

_BY_NAME = ("$defs", "definitions", "properties", "patternProperties")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
"""Where a JSON schema holds others."""

_LOOKED_AT = 64
"""Parts of one schema that are tried in search of the one at fault; beyond them, the whole is named."""


class Vocabulary:
    """What the tokens of a model stand for. Making one takes about a second for a vocabulary of 150,000.

    tokens: the bytes of each; of a control token, its name
    control: which of them only steer the model
    ends: which of them end an answer
    tokenize: a text without control tokens to tokens
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        *,
        control: Collection[int],
        ends: Collection[int],
        tokenize: Callable[[str], list[int]],
    ) -> None:
        self.tokens = tokens
        wrapped = llguidance.TokenizerWrapper(_Tokenizer(tokens, control, min(ends), tokenize))
        self._tokenizer = llguidance.LLTokenizer(wrapped, eos_token=sorted(ends))

    def matcher(self, grammar: str) -> "Matcher":
        """Raises InvalidRequest where the grammar is none, or too large."""
        return Matcher(self._tokenizer, grammar)

    def described(self, token: int, logprob: float, top: Sequence[tuple[int, float]]) -> TokenLogprob:
        """top: other likely tokens and how likely they are"""
        alternatives = [(self._text(other), self.tokens[other], likely) for other, likely in top]
        return TokenLogprob(self._text(token), self.tokens[token], logprob, alternatives)

    def _text(self, token: int) -> str:
        return self.tokens[token].decode(errors="replace")


def vocabulary_of(tokenizer: Any, *, size: int, ends: Collection[int]) -> Vocabulary:
    """That of a fast tokenizer of transformers'.

    size: how many logits the model gives: often more than there are tokens
    """
    backend = tokenizer.backend_tokenizer
    known = llguidance.LLTokenizer(backend.to_str(), slices=[])  # for the bytes alone: it has words for control tokens
    added = tokenizer.added_tokens_decoder
    tokens = [known.decode_bytes([token]) if backend.id_to_token(token) else b"" for token in range(size)]
    return Vocabulary(
        tokens,
        control=[token for token in range(size) if token in added and added[token].special],
        ends=[end for end in ends if end is not None and end < size],
        tokenize=lambda text: backend.encode(text, add_special_tokens=False).ids,
    )


class _Tokenizer:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(
        self, tokens: Sequence[bytes], control: Collection[int], end: int, tokenize: Callable[[str], list[int]]
    ) -> None:
        self.tokens = list(tokens)
        self.special_token_ids = list(control)
        self.eos_token_id = end
        self._tokenize = tokenize

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            raise TypeError("text only")
        return self._tokenize(text)


class Matcher:
    """One answer, as far as it goes."""

    def __init__(self, tokenizer: llguidance.LLTokenizer, grammar: str) -> None:
        self._matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=_limits())
        if self._matcher.is_error():
            raise InvalidRequest(f"the answer cannot be held to this: {_reason(self._matcher.get_error())}")

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which tokens may follow, shape (vocabulary,). Once the answer is whole, those that end it.

        Raises InvalidRequest where the grammar turns out to be too complex.
        """
        biases = np.frombuffer(self._matcher.compute_logit_bias(), np.uint8)
        self._check()
        return biases.astype(np.bool_)

    def accept(self, token: int) -> None:
        """The token that follows, one of those allowed."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def done(self) -> bool:
        """Whether nothing may follow but the end."""
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InvalidRequest(f"the answer could not be held to its form: {_reason(self._matcher.get_error())}")


def json_rule(schema: Mapping[str, Any]) -> str:
    """JSON of this schema, as a part of a grammar."""
    return f"%json {json.dumps({**schema, 'x-guidance': _WHITE_SPACE})}"


def check_schema(schema: Mapping[str, Any], param: str) -> None:
    """Raises InvalidRequest where the schema asks for what no grammar can hold, naming the part that does.

    param: where the request has the schema
    """
    try:
        fault = _fault(schema)
        at = _culprit(schema, schema) if fault else ""
    except RecursionError:
        raise InvalidRequest(f"{param} is nested too deeply", param=param) from None
    if fault:
        raise InvalidRequest(f"{param}{at} cannot be served: {fault}", param=param)


def _fault(schema: Mapping[str, Any]) -> str:
    """What is wrong with a schema; nothing where it is fine."""
    said = llguidance.LLMatcher.validate_grammar(f"start: {json_rule(schema)}", limits=_limits())
    return "" if not said or said.startswith("WARNING") else _reason(said)


def _culprit(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """The way to the innermost part that is at fault."""
    shared = {name: root[name] for name in ("$defs", "definitions") if name in root}
    for way, part in islice(_parts(schema), _LOOKED_AT):
        if isinstance(part, Mapping) and _fault({**shared, **part}):
            return way + _culprit(part, root)
    return ""


def _parts(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for keyword in (*_BY_NAME, *_LISTED, *_SINGLE):
        parts = schema.get(keyword)
        if keyword in _SINGLE:
            yield f".{keyword}", parts
        elif isinstance(parts, Mapping):
            yield from ((f".{keyword}.{name}", part) for name, part in parts.items())
        elif isinstance(parts, list):
            yield from ((f".{keyword}[{at}]", part) for at, part in enumerate(parts))


def _limits() -> llguidance.LLParserLimits:
    return llguidance.LLParserLimits(verbose_errors=False)


def _reason(said: str) -> str:
    """What llguidance says, without where in the grammar that is, and without the grammar."""
    first, *more = said.splitlines()
    regex = next((line for line in more if line.startswith("error: ")), "")
    return regex.removeprefix("error: ") or first.rpartition("failed to compile JSON schema: ")[2]
