"""The vocabulary of a GGUF model: text to tokens and back, and which of them steer the model."""

import ctypes
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

import llama_cpp.llama_cpp as llama

from llmux.errors import InvalidRequest
from providers.constraint import Vocabulary
from providers.dialect import spans

_KEPT_TOKENS = 16_384
"""Of which the bytes are remembered: those that texts are mostly made of."""


class LlamaVocabulary:
    """special_tokens, control_tokens: as a ChatRuntime has them
    size: how many tokens there are
    steering: those that are control tokens
    """

    def __init__(self, model: Any) -> None:
        """model: a llama_model, which must outlive this."""
        self._vocab = llama.llama_model_get_vocab(model)
        self.size: int = llama.llama_vocab_n_tokens(self._vocab)
        self.special_tokens = dict(self._special_tokens())
        self.steering = frozenset(self._steering())
        self.control_tokens = tuple(self._text(token) for token in sorted(self.steering))
        self._bytes_of_some = lru_cache(_KEPT_TOKENS)(self._bytes_of)

    @property
    def is_there(self) -> bool:
        return bool(llama.llama_vocab_type(self._vocab) != llama.LLAMA_VOCAB_TYPE_NONE)

    def _special_tokens(self) -> Iterator[tuple[str, str]]:
        for name in ("bos", "eos", "pad", "sep"):
            token = getattr(llama, f"llama_vocab_{name}")(self._vocab)
            if token != llama.LLAMA_TOKEN_NULL:
                yield f"{name}_token", self._text(token)

    def _steering(self) -> Iterator[int]:
        control = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN
        for token in range(self.size):
            if llama.llama_vocab_get_attr(self._vocab, token) & control:
                yield token

    def _text(self, token: int) -> str:
        text: bytes = llama.llama_vocab_get_text(self._vocab, token)
        return text.decode(errors="replace")

    def tokenize(self, prompt: str) -> list[int]:
        """A prompt rendered by providers.dialect, begun as the model wants it."""
        tokens = [token for span in spans(prompt) for token in self._tokenize_span(span)]
        if llama.llama_vocab_get_add_bos(self._vocab):
            bos = llama.llama_vocab_bos(self._vocab)
            if tokens[:1] != [bos]:  # most templates write it themselves
                tokens.insert(0, bos)
        return tokens

    def token(self, text: str) -> int | None:
        """The one token that stands for this text, if there is one."""
        tokens = self._tokenize_span(text)
        return tokens[0] if len(tokens) == 1 else None

    def _tokenize_span(self, text: str) -> list[int]:
        data = text.encode(errors="replace")
        room = len(data) + 8  # a token a byte, and some vocabularies put a space before
        tokens = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocab, data, len(data), tokens, room, False, True)
        if count < -room:  # of the few in which a space takes several
            room = -count
            tokens = (llama.llama_token * room)()
            count = llama.llama_tokenize(self._vocab, data, len(data), tokens, room, False, True)
        if count < 0:
            raise InvalidRequest("the prompt cannot be tokenized", param="messages")
        return list(tokens[:count])

    def bytes_of(self, token: int) -> bytes:
        """What the token adds to a text; of a control token, its name."""
        return self._bytes_of_some(token)

    def _bytes_of(self, token: int) -> bytes:
        data = ctypes.create_string_buffer(64)
        length = llama.llama_token_to_piece(self._vocab, token, data, len(data), 0, True)
        if length < 0:
            data = ctypes.create_string_buffer(-length)
            length = llama.llama_token_to_piece(self._vocab, token, data, len(data), 0, True)
        return data.raw[:length]

    def ends(self, token: int) -> bool:
        """Whether an answer ends with this token."""
        return bool(llama.llama_vocab_is_eog(self._vocab, token))

    @cached_property
    def words(self) -> Vocabulary:
        """For grammars and logprobs."""
        tokens = range(self.size)
        return Vocabulary(
            [self._bytes_of(token) for token in tokens],
            control=self.steering,
            ends=[token for token in tokens if self.ends(token)],
            tokenize=self._tokenize_span,
        )
