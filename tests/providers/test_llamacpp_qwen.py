"""A tiny Qwen3.5 through llama.cpp: layers with a recurrent state, and a projector for images."""

import asyncio
import base64
import io
import re
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from llama_cpp import Llama, llama_cpp
from llama_cpp.llama_chat_format import MTMDChatHandler
from PIL import Image as Pillow
from transformers import AutoTokenizer

from llmux.errors import InvalidRequest
from providers import llamacpp
from providers.llamacpp import LlamaCpp
from providers.runtime import Image, Sampling
from tests.pictures import picture
from tests.qwen import GREEDY, SEEN, answer, asked, gguf, text

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(qwen: Path) -> AsyncIterator[LlamaCpp]:
    loaded = await llamacpp.load(gguf(), qwen)
    yield loaded
    await loaded.close()


def reference(folder: Path, question: str, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch) -> str:
    """What llama-cpp-python says with its own handler for images."""
    defaults = llama_cpp.llama_model_default_params

    # The same kernels as the runtime's, for the same rounding.
    def without_repacking() -> Any:
        parameters = defaults()
        parameters.use_extra_bufts = False
        return parameters

    monkeypatch.setattr(llama_cpp, "llama_model_default_params", without_repacking)
    handler = MTMDChatHandler(str(folder / "mmproj.gguf"), verbose=False)
    library = Llama(
        str(folder / "model.gguf"), chat_handler=handler, n_ctx=2048, n_batch=256, n_ubatch=256, verbose=False
    )
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
    try:
        said: Any = library.create_chat_completion(
            [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}],
            max_tokens=GREEDY.max_tokens,
            temperature=0,
            repeat_penalty=1,
        )
    finally:
        library.close()
    return str(said["choices"][0]["message"]["content"])


def data_url(image: Image) -> str:
    data = io.BytesIO()
    Pillow.fromarray(image).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


@pytest.mark.parametrize("images", [0, 1, 2])
async def test_greedy_is_what_llama_cpp_python_says(
    runtime: LlamaCpp, qwen: Path, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [picture(seed, 256 + 64 * seed, 320) for seed in range(images)]
    said = text(await answer(runtime, asked(SEEN * images + "What is it?"), pictures))
    wanted = reference(qwen, "What is it?", pictures, monkeypatch)
    # It leaves out control tokens, and bytes that are no character.
    assert re.sub("|".join(["\ufffd", *map(re.escape, runtime.control_tokens)]), "", said) == wanted
    assert len(wanted) > 4


@pytest.mark.parametrize("images", [0, 2])
async def test_greedy_is_what_the_model_that_it_was_made_of_says(runtime: LlamaCpp, qwen: Path, images: int) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageTextToText

    made_of = AutoModelForImageTextToText.from_pretrained(qwen, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(qwen)
    pictures = [picture(seed) for seed in range(images)]
    prompt = asked(SEEN * images + "What is it?")
    seen: dict[str, Any] = {}
    if pictures:
        seen = dict(AutoImageProcessor.from_pretrained(qwen, backend="pil")(pictures, return_tensors="pt"))
    ids = torch.tensor([tokenizer(prompt.replace("<|image_pad|>", "<|image_pad|>" * 80))["input_ids"]])
    kinds = (ids == made_of.config.image_token_id).int()
    written = made_of.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=kinds,
        do_sample=False,
        max_new_tokens=GREEDY.max_tokens,
        **seen,
    )[0, ids.shape[1] :]
    pieces = await answer(runtime, prompt, pictures)
    assert text(pieces) == tokenizer.decode(written)
    assert pieces[-1].prompt_tokens == ids.shape[1]


async def test_nothing_of_a_request_is_left_for_the_next_one(runtime: LlamaCpp) -> None:
    """A recurrent state cannot be cut back as a cache of keys can: it must begin at zero."""
    prompt, seen = asked("Name a colour."), asked(f"{SEEN}Name it.")
    first, first_seen = text(await answer(runtime, prompt)), text(await answer(runtime, seen, [picture(1)]))
    await answer(runtime, asked("Something quite different, and longer."), ())
    assert text(await answer(runtime, prompt)) == first
    assert text(await answer(runtime, seen, [picture(1)])) == first_seen
    async with aclosing(runtime.generate(seen, GREEDY, [picture(3)])) as pieces:
        await anext(pieces)
    assert text(await answer(runtime, prompt)) == first


async def test_a_cancelled_prompt_leaves_nothing_either(runtime: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    first = text(await answer(runtime, asked("Name a colour.")))
    stepped, cancelled = threading.Event(), threading.Event()
    engine = runtime._engine
    assert engine is not None
    step = engine.step

    def slow(shares: Any) -> Any:
        written = step(shares)
        stepped.set()
        cancelled.wait()
        return written

    monkeypatch.setattr(engine, "step", slow)
    task = asyncio.create_task(answer(runtime, asked("word " * 300)))
    await asyncio.to_thread(stepped.wait)
    task.cancel()
    asyncio.get_running_loop().call_soon(cancelled.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    assert text(await answer(runtime, asked("Name a colour."))) == first


async def test_control_tokens_stand_in_the_answer_by_their_text(runtime: LlamaCpp) -> None:
    token = runtime._vocabulary.token("<|im_start|>")
    assert token is not None
    forced = Sampling(max_tokens=2, temperature=0, logit_bias={token: 1000.0})
    assert text(await answer(runtime, asked("Hello"), sampling=forced)) == "<|im_start|>" * 2


async def test_the_token_that_ends_the_answer_does_not_stand_in_it(runtime: LlamaCpp) -> None:
    token = runtime._vocabulary.token("<|im_end|>")
    assert token is not None
    ended = await answer(runtime, asked("Hello"), sampling=Sampling(temperature=0, logit_bias={token: 1000.0}))
    assert [(piece.text, piece.tokens, piece.finish_reason) for piece in ended] == [("", 1, "stop")]


async def test_a_bias_on_a_token_that_there_is_not_is_refused(runtime: LlamaCpp) -> None:
    with pytest.raises(InvalidRequest, match="logit_bias names token 268"):
        await answer(runtime, asked("Hello"), sampling=Sampling(logit_bias={268: 1.0}))


async def test_penalties_and_seeds_reach_the_sampler(runtime: LlamaCpp) -> None:
    async def said(**parameters: Any) -> str:
        return text(await answer(runtime, asked("Hello"), sampling=Sampling(max_tokens=12, **parameters)))

    plain = await said(temperature=0)
    assert await said(temperature=0, frequency_penalty=2.0, presence_penalty=2.0) != plain
    assert await said(temperature=0, repetition_penalty=5.0) != plain
    assert await said(temperature=2, top_k=1) == plain
    assert await said(temperature=2, min_p=1.0) == plain
    assert await said(temperature=2, min_p=0.0, top_k=0, seed=4) != plain
