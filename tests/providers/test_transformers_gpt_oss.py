"""A tiny gpt-oss through transformers: sliding windows, experts, MXFP4."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmux.config import Model
from providers import mxfp4, torch_engine, transformers_chat
from providers.kept_blocks import KeptBlocks
from providers.runtime import Piece, Sampling
from providers.transformers_chat import TransformersChat
from tests import checkpoints
from tests.stepping import engine_of, greedy, tokens_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "<|start|>user<|message|>Say a word of " + "many words and " * 30 + "<|end|><|start|>assistant"


def model(**more: Any) -> Model:
    return Model.model_validate(
        {"task": "llm", "runtime": "transformers", "weights": "maker/tiny", "estimate": "1 MB", "context": 2048, **more}
    )


@pytest.fixture(scope="module", params=["bf16", "mxfp4"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    plain = tmp_path_factory.mktemp("gpt-oss")
    checkpoints.write_gpt_oss(plain)
    if request.param == "bf16":
        return plain
    mxfp4.convert(plain, plain / "packed")
    return plain / "packed"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(folder: Path) -> AsyncIterator[TransformersChat]:
    loaded = await transformers_chat.load(model(), folder)
    yield loaded
    await loaded.close()


async def answer(runtime: TransformersChat, sampling: Sampling) -> list[Piece]:
    return [piece async for piece in runtime.generate(PROMPT, sampling)]


async def test_greedy_is_what_transformers_says(runtime: TransformersChat, folder: Path) -> None:
    library = AutoModelForCausalLM.from_pretrained(folder)
    tokens = tokens_of(runtime, PROMPT)
    assert len(tokens) > torch_engine.STEP_TOKENS
    said = library.generate(torch.tensor([tokens]), do_sample=False, max_new_tokens=24)[0, len(tokens) :]
    assert greedy(engine_of(runtime), PROMPT, len(said)) == said.tolist()
    written = await answer(runtime, Sampling(temperature=0, max_tokens=24))
    wanted = AutoTokenizer.from_pretrained(folder).decode(said)
    assert "".join(piece.text for piece in written) == wanted.rstrip("\ufffd")


async def test_its_small_attention_matrices_take_smaller_steps_the_further_it_is(
    runtime: TransformersChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes down every score: 256 tokens after 32,000 others would be 4 GB of them with 64 heads."""
    engine = engine_of(runtime)
    assert engine._model.config._attn_implementation == "eager"
    monkeypatch.setattr(engine._config, "num_attention_heads", 64)
    steps = [engine._pass_tokens(position) for position in (0, 1024, 2048, 32_000)]
    assert steps[0] == torch_engine.STEP_TOKENS
    assert steps == sorted(steps, reverse=True)
    assert all(64 * step * (position + 256) <= 2**25 for step, position in zip(steps[2:], (2048, 32_000), strict=True))


async def test_small_steps_say_the_same(runtime: TransformersChat, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(runtime)
    monkeypatch.setattr(engine, "_kept_blocks", KeptBlocks(0))
    wanted = greedy(engine, PROMPT, 12)
    monkeypatch.setattr(torch_engine, "_SCORES", 2 * 7 * 300)
    assert engine._pass_tokens(0) < 10
    assert greedy(engine, PROMPT, 12) == wanted


@pytest.mark.parametrize("end", ["<|return|>", "<|call|>", "<|endoftext|>"])
async def test_an_answer_ends_with_a_turn_and_with_a_call(runtime: TransformersChat, end: str) -> None:
    (token,) = tokens_of(runtime, end)
    ended = await answer(runtime, Sampling(temperature=0, logit_bias={token: 1000.0}))
    assert [(piece.text, piece.finish_reason) for piece in ended] == [("", "stop")]


async def test_the_channels_stand_in_the_answer(runtime: TransformersChat) -> None:
    (token,) = tokens_of(runtime, "<|channel|>")
    forced = await answer(runtime, Sampling(temperature=0, max_tokens=1, logit_bias={token: 1000.0}))
    assert "".join(piece.text for piece in forced) == "<|channel|>"
