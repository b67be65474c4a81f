"""How a tiny Qwen3.5 is asked something, by whichever runtime it was loaded."""

from collections.abc import Sequence
from typing import Any

from llmux.config import Model
from providers.runtime import ChatRuntime, Image, Piece, Sampling

GREEDY = Sampling(max_tokens=24, temperature=0)

SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
"""What its template writes for an image."""

TORN = "\ufffd"
"""A character that the last token left unfinished: runtimes hold it back."""


def gguf(**more: Any) -> Model:
    """Its configuration for llama.cpp, in the fixture `qwen`."""
    files = {"file": "model.gguf", "projector": "mmproj.gguf"}
    return _model(runtime="llama.cpp", **files | more)


def safetensors(**more: Any) -> Model:
    """Its configuration for transformers, in the fixture `qwen`."""
    return _model(runtime="transformers", **{"capabilities": ["vision"], **more})


def _model(**more: Any) -> Model:
    return Model.model_validate({"task": "llm", "weights": "maker/tiny", "estimate": "1 MB", "context": 2048, **more})


def asked(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n<think>\n"


async def answer(
    runtime: ChatRuntime, prompt: str, images: Sequence[Image] = (), sampling: Sampling = GREEDY
) -> list[Piece]:
    return [piece async for piece in runtime.generate(prompt, sampling, images)]


def text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
