"""Answers of both chat runtimes with random weights, which would say anything, held to schemas and calls."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from providers import llamacpp, transformers_chat
from providers.runtime import ChatRuntime
from tests import checkpoints, templates
from tests.constrained import TOOLS, ask, hold, is_a_call
from tests.qwen import gguf, safetensors

ANSWERS = 500


@pytest.fixture(params=["llama.cpp", "transformers"])
async def runtime(request: pytest.FixtureRequest, qwen: Path) -> AsyncIterator[ChatRuntime]:
    loaded: ChatRuntime
    if request.param == "llama.cpp":
        loaded = await llamacpp.load(gguf(), qwen)
    else:
        loaded = await transformers_chat.load(safetensors(capabilities=[]), qwen)
    yield loaded
    await loaded.close()


@pytest.fixture(params=["llama.cpp", "transformers"])
async def quick(request: pytest.FixtureRequest, qwen: Path, tmp_path: Path) -> AsyncIterator[ChatRuntime]:
    """Of the architectures there are, those that are the quickest here."""
    loaded: ChatRuntime
    if request.param == "llama.cpp":
        loaded = await llamacpp.load(gguf(), qwen)
    else:
        checkpoints.write_plain(tmp_path)
        loaded = await transformers_chat.load(safetensors(capabilities=[]), tmp_path)
    yield loaded
    await loaded.close()


async def test_every_answer_is_json_of_its_schema(quick: ChatRuntime) -> None:
    assert await hold(quick, ANSWERS) > ANSWERS * 0.99


@pytest.mark.parametrize("template", [templates.QWEN, templates.HERMES], ids=["function", "json"])
async def test_a_call_that_is_demanded_is_made(runtime: ChatRuntime, template: str) -> None:
    runtime.chat_template = template
    whole = 0
    for seed in range(8):
        answer = await ask(
            runtime, tools=TOOLS, tool_choice="required", seed=seed, enable_thinking=False, parallel_tool_calls=False
        )
        is_a_call(answer, most=1)
        whole += answer.finish_reason == "tool_calls"
    assert whole >= 6, "the others were cut"


async def test_reasoning_is_free_until_its_end(runtime: ChatRuntime) -> None:
    runtime.chat_template = templates.QWEN
    close = {"265": 6}  # </think>, made likelier
    ends = 0
    for seed in range(4):
        answer = await ask(runtime, tools=TOOLS, tool_choice="required", seed=seed, logit_bias=close, max_tokens=800)
        is_a_call(answer)
        ends += answer.finish_reason == "tool_calls"
    assert ends
