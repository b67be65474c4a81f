"""How a tiny Qwen3.5 takes its images, through llama.cpp."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from llmux.errors import ContextLengthExceeded, InvalidRequest, LoadFailed, WeightsMissing
from providers import dialect, llamacpp
from providers.llamacpp import LlamaCpp
from tests import checkpoints
from tests.pictures import picture
from tests.qwen import SEEN, answer, asked, gguf, text

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(qwen: Path) -> AsyncIterator[LlamaCpp]:
    loaded = await llamacpp.load(gguf(), qwen)
    yield loaded
    await loaded.close()


async def test_it_says_what_its_template_writes_for_an_image(runtime: LlamaCpp) -> None:
    assert runtime.image_token == "<|image_pad|>"
    assert "<|image_pad|>" in runtime.chat_template
    assert runtime.context == 2048


async def test_each_image_stands_where_the_prompt_names_it(runtime: LlamaCpp) -> None:
    prompt = asked(f"{SEEN} or {SEEN}")
    red, blue = picture(1), picture(2)
    said = {text(await answer(runtime, prompt, order)) for order in ((red, blue), (blue, red), (red, red))}
    assert len(said) == 3


async def test_an_image_counts_as_many_tokens_as_it_takes(runtime: LlamaCpp) -> None:
    without = (await answer(runtime, asked(SEEN.replace("<|image_pad|>", ""))))[-1].prompt_tokens
    with_it = (await answer(runtime, asked(SEEN), [picture(0)]))[-1].prompt_tokens
    assert with_it - without == (256 // 32) * (320 // 32)


async def test_images_beyond_the_context_are_refused_with_both_numbers(runtime: LlamaCpp) -> None:
    images = [picture(0, 1024, 1024)] * 2
    with pytest.raises(ContextLengthExceeded, match=r"has 20\d\d tokens.*2048"):
        await answer(runtime, asked(SEEN * 2), images)


@pytest.mark.parametrize("named", [0, 2])
async def test_a_prompt_that_does_not_name_each_image_is_refused(runtime: LlamaCpp, named: int) -> None:
    with pytest.raises(InvalidRequest, match="does not name each image once"):
        await answer(runtime, asked(SEEN * named), [picture(0)])


async def test_an_image_token_that_the_client_wrote_is_text(runtime: LlamaCpp) -> None:
    """dialect cuts it, so that it neither takes an image's place nor counts as one."""
    prompt = asked(f"<{dialect.SEAM}|image_pad|>{SEEN}")
    assert (await answer(runtime, prompt, [picture(0)]))[-1].finish_reason


async def test_without_a_projector_it_sees_nothing(qwen: Path) -> None:
    loaded = await llamacpp.load(gguf(projector=None), qwen)
    await loaded.close()
    assert loaded.image_token is None


async def test_a_projector_that_is_not_there_is_weights_missing(qwen: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"^absent\.gguf is missing"):
        await llamacpp.load(gguf(projector="absent.gguf"), qwen)


async def test_a_damaged_projector_is_refused(qwen: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").symlink_to(qwen / "model.gguf")
    (tmp_path / "part.gguf").write_bytes((qwen / "mmproj.gguf").read_bytes()[:100_000])
    with pytest.raises(LoadFailed, match=r"cannot load part\.gguf") as refused:
        await llamacpp.load(gguf(projector="part.gguf"), tmp_path)
    assert str(tmp_path) not in str(refused.value)


async def test_a_projector_for_a_template_without_images_is_refused(qwen: Path, tmp_path: Path) -> None:
    checkpoints.write_qwen_gguf(qwen, tmp_path / "model.gguf", tmp_path / "mmproj.gguf", template="{{ messages }}")
    with pytest.raises(LoadFailed, match="its chat template names no image"):
        await llamacpp.load(gguf(), tmp_path)
