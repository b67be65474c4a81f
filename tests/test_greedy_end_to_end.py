"""What each runtime says greedily through a real gateway is what its library says when it is called directly."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import llama_cpp
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from bench.smollm2 import safetensors_folder
from tests import checkpoints
from tests.gateway import Gateway

CONFIG = """\
model_list:
  - {{model_name: smollm2-gguf, litellm_params: {{model: llmux/smollm2-gguf}}}}
  - {{model_name: smollm2, litellm_params: {{model: llmux/smollm2}}}}
  - {{model_name: qwen-gguf, litellm_params: {{model: llmux/qwen-gguf}}}}
  - {{model_name: qwen, litellm_params: {{model: llmux/qwen}}}}
  - {{model_name: gpt-oss, litellm_params: {{model: llmux/gpt-oss}}}}
llmux:
  budget: 4 GB
  database: none
  models_dir: {models}
  models:
    smollm2-gguf:
      {{task: llm, runtime: llama.cpp, weights: smollm2-gguf, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 1024,
        estimate: 300 MB}}
    smollm2: {{task: llm, runtime: transformers, weights: smollm2, context: 1024, estimate: 600 MB}}
    qwen-gguf: {{task: llm, runtime: llama.cpp, weights: qwen, file: model.gguf, context: 1024, estimate: 100 MB}}
    qwen:
      {{task: llm, runtime: transformers, weights: qwen, context: 1024, estimate: 100 MB, capabilities: [vision]}}
    gpt-oss: {{task: llm, runtime: transformers, weights: gpt-oss, context: 1024, estimate: 100 MB}}
"""

ASKED: list[Any] = [{"role": "user", "content": "Name three colours."}]
LENGTH = 24


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Path:
    folder = tmp_path_factory.mktemp("greedy")
    for name in ("qwen", "gpt-oss"):
        (folder / name).mkdir()
    checkpoints.write_qwen(folder / "qwen")
    checkpoints.write_qwen_gguf(folder / "qwen", folder / "qwen" / "model.gguf")
    checkpoints.write_gpt_oss(folder / "gpt-oss")
    (folder / "smollm2-gguf").symlink_to(demo_models / "smollm2-135m")
    (folder / "smollm2").symlink_to(safetensors_folder(demo_models))
    return folder


@pytest.fixture(scope="module")
def gateway(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = tmp_path_factory.mktemp("gateway") / "config.yaml"
    config.write_text(CONFIG.format(models=models))
    gateway = Gateway(config)
    yield gateway
    gateway.stop()


def by_transformers(folder: Path, kind: Any = AutoModelForCausalLM) -> str:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    library = kind.from_pretrained(folder, dtype="auto")
    prompt = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    with torch.inference_mode():
        tokens = library.generate(**prompt, do_sample=False, max_new_tokens=LENGTH)
    said: str = tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :])
    return said


def by_llama_cpp(file: Path, prompt: str) -> str:
    defaults = llama_cpp.llama_model_default_params

    def without_repacking() -> Any:  # the same kernels as the runtime's, for the same rounding
        parameters = defaults()
        parameters.use_extra_bufts = False
        return parameters

    with mock.patch.object(llama_cpp, "llama_model_default_params", without_repacking):
        library = llama_cpp.Llama(str(file), n_ctx=1024, n_batch=256, n_ubatch=256, flash_attn=True, verbose=False)
    try:
        tokens = library.tokenize(prompt.encode(), add_bos=False, special=True)
        generated = []
        for token in library.generate(tokens, temp=0.0, repeat_penalty=1.0):
            generated.append(token)
            if len(generated) == LENGTH or token == library.token_eos():
                break
        said: bytes = library.detokenize(generated, special=True)
        return said.decode(errors="replace")
    finally:
        library.close()


def rendered(folder: Path) -> str:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    prompt: str = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, tokenize=False)
    return prompt


def by_its_library(models: Path, name: str) -> str:
    if name == "smollm2-gguf":
        return by_llama_cpp(models / name / "SmolLM2-135M-Instruct.Q4_1.gguf", rendered(models / "smollm2"))
    if name == "qwen-gguf":
        return by_llama_cpp(models / "qwen" / "model.gguf", rendered(models / "qwen"))
    return by_transformers(models / name, AutoModelForImageTextToText if name == "qwen" else AutoModelForCausalLM)


def plain(text: str) -> str:
    """Without what ends an answer, and without a character that its end tore."""
    for end in ("<|im_end|>", "<|return|>", "<|endoftext|>"):
        text = text.removesuffix(end)
    return text.strip().rstrip("\ufffd")


@pytest.mark.parametrize("name", ["smollm2-gguf", "smollm2", "qwen-gguf", "qwen", "gpt-oss"])
def test_greedy_is_what_the_library_says(gateway: Gateway, models: Path, name: str) -> None:
    answer = gateway.openai().chat.completions.create(model=name, messages=ASKED, temperature=0, max_tokens=LENGTH)
    message = answer.choices[0].message
    said = (getattr(message, "reasoning_content", None) or "") + (message.content or "")
    assert said
    assert plain(said) == plain(by_its_library(models, name))
