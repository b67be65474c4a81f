"""How a tiny Qwen3.5 is asked something, by whichever runtime it was loaded."""

from collections.abc import Sequence

from providers.runtime import ChatRuntime, Image, Piece, Sampling

GREEDY = Sampling(max_tokens=24, temperature=0)

SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
"""What its template writes for an image."""

TORN = "\ufffd"
"""A character that the last token left unfinished: runtimes hold it back."""


def asked(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n<think>\n"


async def answer(
    runtime: ChatRuntime, prompt: str, images: Sequence[Image] = (), sampling: Sampling = GREEDY
) -> list[Piece]:
    return [piece async for piece in runtime.generate(prompt, sampling, images)]


def text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
