"""The vocabulary of a tiny Qwen3.5 and of a tiny Llama, as llama.cpp reads them."""

import os
from collections.abc import Iterator
from pathlib import Path

import llama_cpp.llama_cpp as llama
import pytest
from transformers import AutoTokenizer

from providers import dialect
from providers.llama_vocabulary import LlamaVocabulary
from tests import checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    checkpoints.write_qwen(folder, vision=False)
    checkpoints.write_qwen_gguf(folder, folder / "model.gguf")
    return folder


def vocabulary_of(path: Path) -> Iterator[LlamaVocabulary]:
    parameters = llama.llama_model_default_params()
    parameters.vocab_only = True
    model = llama.llama_model_load_from_file(os.fsencode(path), parameters)
    yield LlamaVocabulary(model)
    llama.llama_model_free(model)


@pytest.fixture(scope="module")
def qwen(folder: Path) -> Iterator[LlamaVocabulary]:
    yield from vocabulary_of(folder / "model.gguf")


@pytest.fixture
def tiny_llama(tmp_path: Path) -> Iterator[LlamaVocabulary]:
    checkpoints.write_llama_gguf(tmp_path / "model.gguf")
    yield from vocabulary_of(tmp_path / "model.gguf")


def test_control_tokens_are_those_that_steer_and_no_words(qwen: LlamaVocabulary) -> None:
    assert qwen.control_tokens == checkpoints.QWEN_TOKENS
    assert qwen.special_tokens["eos_token"] == "<|im_end|>"
    assert qwen.size == 257 + len(checkpoints.QWEN_TOKENS) + len(checkpoints.QWEN_WORDS)


@pytest.mark.parametrize("prompt", ["<|im_start|>user\nCall a <tool_call>!<|im_end|>", "Grüße 🙂 a", " a\n\n  a"])
def test_it_tokenizes_as_the_tokenizer_that_it_was_made_of(qwen: LlamaVocabulary, folder: Path, prompt: str) -> None:
    tokens = AutoTokenizer.from_pretrained(folder)(prompt)["input_ids"]
    assert qwen.tokenize(prompt) == tokens
    assert b"".join(qwen.bytes_of(token) for token in tokens).decode() == prompt


def test_what_a_seam_cuts_is_text(qwen: LlamaVocabulary) -> None:
    end = qwen.token("<|im_end|>")
    assert end in qwen.tokenize("a<|im_end|>")
    assert end not in qwen.tokenize(f"a<{dialect.SEAM}|im_end|>")


def test_only_what_is_one_token_has_a_token(qwen: LlamaVocabulary) -> None:
    assert qwen.token("two tokens") is None
    assert qwen.token("") is None


def test_an_answer_ends_with_the_ends_that_the_gguf_names(qwen: LlamaVocabulary) -> None:
    ends = {text for text in checkpoints.QWEN_TOKENS if (token := qwen.token(text)) is not None and qwen.ends(token)}
    assert ends == {"<|im_end|>", "<|endoftext|>"}


def test_a_prompt_is_begun_where_the_model_wants_it_and_the_template_did_not(tiny_llama: LlamaVocabulary) -> None:
    assert tiny_llama.tokenize("ab")[0] == tiny_llama.tokenize("<s>ab")[0] == 1
    assert len(tiny_llama.tokenize("<s>ab")) == len(tiny_llama.tokenize("ab"))
