"""How a tiny Qwen3.5 takes its images, through transformers."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llmux.errors import ContextLengthExceeded, InvalidRequest
from providers import transformers_chat
from providers.context import Request
from providers.runtime import Image
from providers.torch_engine import STEP_TOKENS
from providers.transformers_chat import TransformersChat
from providers.vision import Seen
from tests.pictures import picture
from tests.qwen import GREEDY, SEEN, answer, asked, safetensors, text
from tests.stepping import engine_of, tokens_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(qwen: Path) -> AsyncIterator[TransformersChat]:
    loaded = await transformers_chat.load(safetensors(), qwen)
    yield loaded
    await loaded.close()


def see(runtime: TransformersChat, image: Image) -> Seen:
    vision = engine_of(runtime)._vision
    assert vision is not None
    return vision.see(tokens_of(runtime, SEEN), [image])


async def test_each_image_stands_where_the_prompt_names_it(runtime: TransformersChat) -> None:
    prompt = asked(f"{SEEN} or {SEEN}")
    red, blue = picture(1), picture(2)
    said = {text(await answer(runtime, prompt, order)) for order in ((red, blue), (blue, red), (red, red))}
    assert len(said) == 3


async def test_a_large_image_is_made_smaller_as_llama_cpp_does(runtime: TransformersChat) -> None:
    seen = see(runtime, picture(0, 4000, 3000))
    assert 3900 < len(seen.tokens) <= 4096 + 2


async def test_images_beyond_the_context_are_refused_with_both_numbers(runtime: TransformersChat) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"has 20\d\d tokens.*2048"):
        await answer(runtime, asked(SEEN * 2), [picture(0, 1024, 1024)] * 2)


@pytest.mark.parametrize("named", [0, 2])
async def test_a_prompt_that_does_not_name_each_image_is_refused(runtime: TransformersChat, named: int) -> None:
    with pytest.raises(InvalidRequest, match="does not name each image once"):
        await answer(runtime, asked(SEEN * named), [picture(0)])


async def test_an_image_three_pixels_high_is_no_image_of_three_channels(runtime: TransformersChat) -> None:
    wide, high = (see(runtime, picture(0, *size)) for size in ((3, 300), (300, 3)))
    assert [grid.tolist() for grid in wide.grids] == [[1, *reversed(grid.tolist()[1:])] for grid in high.grids]


async def test_an_image_like_a_thread_is_refused(runtime: TransformersChat) -> None:
    with pytest.raises(InvalidRequest, match="too narrow"):
        await answer(runtime, asked(SEEN), [picture(0, 1, 300)])


async def test_a_request_that_is_gone_looks_at_no_further_image(
    runtime: TransformersChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    engine = engine_of(runtime)
    look = engine._model.get_image_features

    def counted(pixels: Any, grid: Any) -> Any:
        looked.append(grid)
        return look(pixels, grid)

    monkeypatch.setattr(engine._model, "get_image_features", counted)
    sequence = engine.add(Request(asked(SEEN * 2), GREEDY, [picture(0, 64, 64), picture(1, 64, 64)]))
    engine.step([(sequence, STEP_TOKENS)])
    engine.remove(sequence)
    assert len(looked) == 1
