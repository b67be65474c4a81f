"""How a tiny Qwen3.5 takes its images, through llama.cpp."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llmux.config import Model
from llmux.errors import ContextLengthExceeded, InvalidRequest, LoadFailed, WeightsMissing
from providers import dialect, llamacpp
from providers.llamacpp import LlamaCpp
from tests import checkpoints
from tests.pictures import picture
from tests.qwen import SEEN, answer, asked, text

pytestmark = pytest.mark.asyncio(loop_scope="module")


def model(**more: Any) -> Model:
    return Model.model_validate(
        {
            "task": "llm",
            "runtime": "llama.cpp",
            "weights": "w",
            "file": "model.gguf",
            "projector": "mmproj.gguf",
            "estimate": "1 MB",
            "context": 2048,
            **more,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    checkpoints.write_qwen(folder)
    checkpoints.write_qwen_gguf(folder, folder / "model.gguf", folder / "mmproj.gguf")
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(folder: Path) -> AsyncIterator[LlamaCpp]:
    loaded = await llamacpp.load(model(), folder)
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


async def test_without_a_projector_it_sees_nothing(folder: Path) -> None:
    loaded = await llamacpp.load(model(projector=None), folder)
    await loaded.close()
    assert loaded.image_token is None


async def test_a_projector_that_is_not_there_is_weights_missing(folder: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"^absent\.gguf is missing"):
        await llamacpp.load(model(projector="absent.gguf"), folder)


async def test_a_damaged_projector_is_refused(folder: Path) -> None:
    (folder / "part.gguf").write_bytes((folder / "mmproj.gguf").read_bytes()[:100_000])
    with pytest.raises(LoadFailed, match=r"cannot load part\.gguf") as refused:
        await llamacpp.load(model(projector="part.gguf"), folder)
    assert str(folder) not in str(refused.value)


async def test_a_projector_for_a_template_without_images_is_refused(folder: Path, tmp_path: Path) -> None:
    checkpoints.write_qwen_gguf(folder, tmp_path / "model.gguf", tmp_path / "mmproj.gguf", template="{{ messages }}")
    with pytest.raises(LoadFailed, match="its chat template names no image"):
        await llamacpp.load(model(), tmp_path)
