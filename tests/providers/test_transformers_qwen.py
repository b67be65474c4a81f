"""A tiny Qwen3.5 through transformers: hybrid layers, images, and FP8 as it comes."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from transformers import AutoImageProcessor, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from llmux.errors import InvalidRequest
from providers import transformers_chat
from providers.kept_blocks import KeptBlocks
from providers.runtime import Image, Piece, Sampling
from providers.torch_engine import STEP_TOKENS
from providers.transformers_chat import TransformersChat
from tests import checkpoints
from tests.pictures import picture
from tests.qwen import GREEDY, SEEN, TORN, answer, asked, safetensors, text
from tests.stepping import engine_of, greedy, tokens_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(qwen: Path) -> AsyncIterator[TransformersChat]:
    loaded = await transformers_chat.load(safetensors(), qwen)
    yield loaded
    await loaded.close()


class Processor(Qwen3VLProcessor):
    """transformers' own, without videos: for these it wants torchvision."""

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]

    def __init__(self, folder: Path) -> None:
        super().__init__(
            AutoImageProcessor.from_pretrained(folder, backend="pil"), AutoTokenizer.from_pretrained(folder)
        )


def reference(folder: Path, prompt: str, images: Sequence[Image]) -> tuple[list[int], str]:
    """The prompt's tokens, and what `generate` says to it."""
    library = AutoModelForImageTextToText.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = Processor(folder)(images=list(images) or None, text=[prompt], return_tensors="pt")
    written = library.generate(**inputs, do_sample=False, max_new_tokens=GREEDY.max_tokens)
    tokens = inputs["input_ids"][0].tolist()
    said = written[0, len(tokens) :].tolist()
    return tokens, tokenizer.decode(said)


async def test_it_says_what_its_template_writes_for_an_image(runtime: TransformersChat) -> None:
    assert runtime.image_token == "<|image_pad|>"
    assert "<|image_pad|>" in runtime.chat_template
    assert runtime.context == 2048


@pytest.mark.parametrize(
    "images",
    [
        [],
        [picture(0)],
        [picture(1, 64, 64), picture(2, 700, 300), picture(3, 301, 299)],
    ],
    ids=["none", "one", "three that are resized"],
)
async def test_greedy_is_what_transformers_says(runtime: TransformersChat, qwen: Path, images: list[Image]) -> None:
    prompt = asked(SEEN * len(images) + "What is it? " + "It may be long. " * 20)
    tokens, said = reference(qwen, prompt, images)
    assert len(tokens) > STEP_TOKENS, "computed in steps"
    pieces = await answer(runtime, prompt, images)
    assert text(pieces) == said.rstrip(TORN)
    assert pieces[-1].prompt_tokens == len(tokens)


async def test_without_eyes_it_is_the_text_model(qwen: Path, runtime: TransformersChat) -> None:
    """The same weights, loaded by the class for text: less to load, and the same answer."""
    blind = await transformers_chat.load(safetensors(capabilities=["tools"]), qwen)
    try:
        assert blind.image_token is None
        assert (
            type(engine_of(blind)._model) is AutoModelForCausalLM._model_mapping[type(engine_of(runtime)._model.config)]
        )
        assert text(await answer(blind, asked("Hello"))) == text(await answer(runtime, asked("Hello")))
    finally:
        await blind.close()


async def test_a_text_checkpoint_has_no_eyes_whatever_the_configuration_says(tmp_path: Path) -> None:
    checkpoints.write_qwen(tmp_path, vision=False)
    loaded = await transformers_chat.load(safetensors(), tmp_path)
    try:
        assert loaded.image_token is None
        library = AutoModelForCausalLM.from_pretrained(tmp_path)
        prompt = asked("Hello " * 60)
        tokens = tokens_of(loaded, prompt)
        wanted = library.generate(torch.tensor([tokens]), do_sample=False, max_new_tokens=20)[0, len(tokens) :]
        assert greedy(engine_of(loaded), prompt, len(wanted)) == wanted.tolist()
    finally:
        await loaded.close()


async def test_nothing_of_a_request_is_left_for_the_next_one(runtime: TransformersChat) -> None:
    """The model's own forward keeps the shift of positions that an image made."""
    prompt = asked("Name a colour.")
    first = text(await answer(runtime, prompt))
    await answer(runtime, asked(f"{SEEN}Name it."), [picture(1, 640, 640)])
    assert text(await answer(runtime, prompt)) == first


async def test_control_tokens_stand_in_the_answer_by_their_text(runtime: TransformersChat) -> None:
    (token,) = tokens_of(runtime, "<|im_start|>")
    forced = Sampling(max_tokens=2, temperature=0, logit_bias={token: 1000.0})
    assert text(await answer(runtime, asked("Hello"), sampling=forced)) == "<|im_start|>" * 2


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>"])
async def test_each_end_of_the_generation_config_ends_the_answer(runtime: TransformersChat, end: str) -> None:
    (token,) = tokens_of(runtime, end)
    ended = await answer(runtime, asked("Hello"), sampling=Sampling(temperature=0, logit_bias={token: 1000.0}))
    assert ended == [Piece("", 1, ended[0].prompt_tokens, "stop")]


async def test_a_bias_on_a_token_that_there_is_not_is_refused(runtime: TransformersChat) -> None:
    with pytest.raises(InvalidRequest, match="logit_bias names token 268"):
        await answer(runtime, asked("Hello"), sampling=Sampling(logit_bias={268: 1.0}))


async def test_penalties_and_seeds_reach_the_sampler(runtime: TransformersChat) -> None:
    async def said(**parameters: Any) -> str:
        return text(await answer(runtime, asked("Hello"), sampling=Sampling(max_tokens=12, **parameters)))

    plain = await said(temperature=0)
    assert await said(temperature=0, frequency_penalty=-2.0, presence_penalty=-2.0) != plain
    assert await said(temperature=0, repetition_penalty=0.05) != plain
    assert await said(temperature=2, top_k=1) == plain
    assert await said(temperature=2, min_p=1.0) == plain
    assert await said(temperature=2, min_p=0.0, top_k=0, seed=4) != plain


# FP8


async def test_fp8_is_unpacked_for_the_cpu_as_transformers_does(qwen: Path, tmp_path: Path) -> None:
    checkpoints.write_fp8(qwen, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["quant_method"] == "fp8"
    loaded = await transformers_chat.load(safetensors(), tmp_path)
    engine_of(loaded)._kept_blocks = KeptBlocks(0)  # where it stops to keep a state, bfloat16 rounds otherwise
    try:
        prompt, images = asked(SEEN + "What is it?"), [picture(0)]
        _, said = reference(tmp_path, prompt, images)
        assert text(await answer(loaded, prompt, images)) == said.rstrip(TORN)
        assert {parameter.dtype for parameter in engine_of(loaded)._model.parameters()} == {torch.bfloat16}
    finally:
        await loaded.close()
