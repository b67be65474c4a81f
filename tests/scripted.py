"""The gateway with chat models that answer what their user tells them to: `python -m tests.scripted serve ...`.

A user's message holds the answer between [[ and ]], which is generated three characters a token; without one, the model
shows what it was given. The template is the
one in tests/templates.py that is named by the folder of the weights. Everything else is the real gateway.
"""

import base64
import os
import re
import sys
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

import httpx

from llmux.config import Model
from llmux.errors import ContextLengthExceeded
from llmux.litellm_settings import ENVIRONMENT
from providers.dialect import SEAM
from providers.download import Download
from providers.runtime import Image, Piece, Sampling
from tests import templates

_PIXEL = base64.b64decode("R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs=")
"""A GIF of one pixel."""

CONTROL = ("<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>")


def shown(markup: str) -> str:
    """Markup to look at, which is none in an answer."""
    return markup.replace("<", "^")


async def load(model: Model, folder: Path) -> "Scripted":
    return Scripted(getattr(templates, folder.name), "<|image_pad|>" if "vision" in model.capabilities else None)


class Scripted:
    """A ChatRuntime."""

    special_tokens: Mapping[str, str] = MappingProxyType({})
    control_tokens: Collection[str] = CONTROL
    context = 32_768

    def __init__(self, chat_template: str, image_token: str | None = None) -> None:
        self.chat_template = chat_template
        self.image_token = image_token

    async def generate(
        self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()
    ) -> AsyncGenerator[Piece, None]:
        said = re.findall(r"\[\[(.*?)\]\]", prompt.replace(SEAM, ""), re.DOTALL)
        answer = said[-1] if said else shown(f"{prompt}{sampling}{[image.shape for image in images]}")
        length = len(prompt) // 4
        if length >= self.context:
            raise ContextLengthExceeded(f"the prompt has {length} tokens, the context {self.context}", param="messages")
        for number, start in enumerate(range(0, len(answer), 3), start=1):
            if number == sampling.max_tokens:
                yield Piece(answer[start : start + 3], 1, length, "length")
                return
            yield Piece(answer[start : start + 3], 1, length)
        yield Piece("", 1, length, "stop")

    async def close(self) -> None:
        pass


class Answered(Download):
    """One host of the internet answers, without any network; all others are as they are."""

    async def __call__(self, url: str) -> bytes:
        return _PIXEL if httpx.URL(url).host == "answered.invalid" else await super().__call__(url)


def _note(event: str, args: tuple[object, ...]) -> None:
    """In the gateway's log: whom this process talks to."""
    if event in ("socket.connect", "socket.getaddrinfo"):
        sys.stdout.write(f"talks to {args}\n")


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)  # before anything imports LiteLLM
    from llmux.cli import main
    from providers import loading

    loading.MODULES = {("llm", "transformers"): "tests.scripted"}
    patch("providers.chat.Download", Answered).start()
    sys.modules["uvloop"] = None  # type: ignore[assignment]  # its connections cannot be watched
    sys.addaudithook(_note)
    main()
