"""The gateway with more chat models than the demo's: `python -m tests.prompted serve ...`, as of `python -m llmux`.

Those of runtime transformers are not real. They count, think where their view says so, and call get_weather where it is
offered, in the markup of Qwen 3.5. Everything else is the real gateway, and the models of the demo.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from llmux.config import Model
from llmux.litellm_settings import ENVIRONMENT
from providers.runtime import Image, Piece, Sampling
from tests import templates
from tests.scripted import Scripted

_WORDS = " ".join(f"number {number}," for number in range(1, 33))
_CALL = "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"
_PACE_S = 0.004
"""Between two pieces: a stream comes as it is written."""


class Prompted(Scripted):
    """A ChatRuntime."""

    async def generate(
        self, prompt: str, sampling: Sampling, images: Sequence[Image] = ()
    ) -> AsyncGenerator[Piece, None]:
        thoughts = "I look at it.\n</think>\n\n" if prompt.endswith("<think>\n") else ""
        said = _CALL if "get_weather" in prompt else _WORDS
        async for piece in super().generate(f"[[{thoughts}{said}]]", sampling):
            await asyncio.sleep(_PACE_S)
            yield piece


async def load(model: Model, folder: Path) -> Prompted:
    return Prompted(templates.QWEN)


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)  # before anything imports LiteLLM
    from llmux.cli import main
    from providers import loading

    assert isinstance(loading.MODULES, dict)
    loading.MODULES["llm", "transformers"] = "tests.prompted"
    main()
