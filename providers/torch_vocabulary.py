"""The tokens of a checkpoint: a prompt's, what each stands for, and which end an answer."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers.decoders import DecodeStream

from providers.constraint import Vocabulary, vocabulary_of
from providers.dialect import spans


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
    def words(self) -> Vocabulary:
        """What the tokens stand for. Made when it is first asked for: that takes a second."""
        return vocabulary_of(self._tokenizer, size=self.size, ends=self.ends)

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
