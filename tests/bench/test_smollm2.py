"""One model for both runtimes: what was made of the GGUF is the GGUF's."""

from pathlib import Path

import pytest
from llama_cpp import Llama
from transformers import AutoTokenizer

from bench.smollm2 import GGUF, safetensors_folder
from llmux.config import Model
from providers import llamacpp, transformers_chat
from providers.runtime import ChatRuntime, Sampling


@pytest.fixture(scope="module")
def made(demo_models: Path) -> Path:
    return safetensors_folder(demo_models)


def test_it_is_made_once(made: Path, demo_models: Path) -> None:
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert safetensors_folder(demo_models) == made
    assert (made / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["<|im_start|>user\nIn 1889, 300 m!<|im_end|>\n", "Grüße, 世界 🙂\n\n  x = [1]"])
def test_it_has_the_same_tokens(made: Path, demo_models: Path, text: str) -> None:
    gguf = Llama(str(demo_models / "smollm2-135m" / GGUF), vocab_only=True, verbose=False)
    tokens = AutoTokenizer.from_pretrained(made)(text, add_special_tokens=False)["input_ids"]
    assert gguf.tokenize(text.encode(), add_bos=False, special=True) == tokens


async def test_it_gives_the_same_answer(made: Path, demo_models: Path) -> None:
    prompt = "<|im_start|>user\nWhere is the Eiffel Tower?<|im_end|>\n<|im_start|>assistant\n"
    said = []
    for module, folder, runtime in (
        (llamacpp, demo_models / "smollm2-135m", "llama.cpp"),
        (transformers_chat, made, "transformers"),
    ):
        model = {"task": "llm", "runtime": runtime, "weights": "w", "file": GGUF, "estimate": "1 MB", "context": 256}
        loaded: ChatRuntime = await module.load(Model.model_validate(model), folder)
        pieces = [piece async for piece in loaded.generate(prompt, Sampling(temperature=0, max_tokens=8))]
        said.append("".join(piece.text for piece in pieces))
        await loaded.close()
    assert said[0] == said[1]
