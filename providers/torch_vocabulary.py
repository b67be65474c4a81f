"""The tokens of a checkpoint: a prompt's, what each stands for, and which end an answer."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers.decoders import DecodeStream
from transformers.convert_slow_tokenizer import bytes_to_unicode

from providers.dialect import spans

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How vocabularies in SentencePiece's manner write a byte."""


class TorchVocabulary:
    """tokenizer: transformers' fast one; ends: ids that end an answer, by the model's generation settings;
    size: of the model's output, which may be larger than what the tokenizer knows
    """

    def __init__(self, tokenizer: Any, ends: Collection[int | None], size: int) -> None:
        self._tokenizer = tokenizer
        self.size = size
        self.ends = {end for end in (tokenizer.eos_token_id, *ends) if end is not None}
        self.control = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}

    @property
    def control_tokens(self) -> Sequence[str]:
        return [self._tokenizer.added_tokens_decoder[token].content for token in sorted(self.control)]

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """What a template may name."""
        return {
            name: str(token) for name, token in self._tokenizer.special_tokens_map.items() if isinstance(token, str)
        }

    def tokenize(self, prompt: str) -> list[int]:
        return [token for span in spans(prompt) for token in self._ids(span)]

    def name_of(self, token: int) -> str:
        name: str = self._tokenizer.convert_ids_to_tokens(token)
        return name

    def writer(self) -> "Writer":
        return Writer(self._tokenizer)

    @cached_property
    def tokens(self) -> Sequence[bytes]:
        """What each token stands for; of a control token, its name."""
        known = self._tokenizer.convert_ids_to_tokens(range(len(self._tokenizer)))
        added = set(self._tokenizer.added_tokens_decoder)
        by_name = {written: byte for byte, written in bytes_to_unicode().items()}
        spelt_in_bytes = "ByteLevel" in str(self._tokenizer.backend_tokenizer.decoder)
        found = []
        for token, name in enumerate(known):
            if name is None:
                found.append(b"")
            elif token in added:
                found.append(name.encode())
            elif spelt_in_bytes and all(character in by_name for character in name):
                found.append(bytes(by_name[character] for character in name))
            elif match := _BYTE.fullmatch(name):
                found.append(bytes.fromhex(match[1]))
            else:
                found.append(name.replace("\u2581", " ").encode())
        return found[: self.size] + [b""] * (self.size - len(found))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


class Writer:
    """Tokens of one answer to text, whole characters only."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._stream = DecodeStream(skip_special_tokens=False)

    def text(self, token: int) -> str:
        """What this token completes."""
        return self._stream.step(self._tokenizer, token) or ""
