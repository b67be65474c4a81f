"""The tokens of a tiny checkpoint."""

import pytest
from transformers import AutoTokenizer

from providers.dialect import SEAM
from providers.torch_vocabulary import TorchVocabulary
from tests import checkpoints

SIZE = 300
"""More than the tokenizer knows, as models have it."""


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> TorchVocabulary:
    folder = tmp_path_factory.mktemp("tiny")
    checkpoints.write_plain(folder)
    return TorchVocabulary(AutoTokenizer.from_pretrained(folder), [None, 257], SIZE)


def test_an_answer_ends_with_the_tokenizers_end_and_the_models(vocabulary: TorchVocabulary) -> None:
    assert vocabulary.ends == {257, 258}


def test_control_tokens_are_known_by_number_and_name(vocabulary: TorchVocabulary) -> None:
    assert vocabulary.control == {257, 258}
    assert vocabulary.control_tokens == ["<|start|>", "<|end|>"]
    assert vocabulary.name_of(258) == "<|end|>"


def test_no_token_spans_a_seam(vocabulary: TorchVocabulary) -> None:
    assert vocabulary.tokenize("<|end|>") == [258]
    assert 258 not in vocabulary.tokenize(f"<|en{SEAM}d|>")


def test_text_comes_in_whole_characters(vocabulary: TorchVocabulary) -> None:
    writer = vocabulary.writer()
    assert [writer.text(token) for token in vocabulary.tokenize("aé")] == ["a", "", "é"]


def test_each_token_of_the_output_stands_for_something_or_nothing(vocabulary: TorchVocabulary) -> None:
    spelt = vocabulary.words.tokens
    assert len(spelt) == SIZE
    assert spelt[258] == b"<|end|>"
    assert b"".join(spelt[token] for token in vocabulary.tokenize("é a")) == "é a".encode()
    assert spelt[-1] == b""
