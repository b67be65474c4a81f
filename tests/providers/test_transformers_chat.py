"""Causal language models through transformers, on a tiny one with random weights."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from bench.smollm2 import safetensors_folder
from llmux.config import Model
from llmux.errors import ContextLengthExceeded, InvalidRequest, LoadFailed, WeightsMissing
from providers import dialect, transformers_chat
from providers.construction import TURN
from providers.runtime import ChatRuntime, Piece, Sampling
from providers.torch_engine import STEP_TOKENS
from providers.transformers_chat import TransformersChat
from tests import checkpoints
from tests.stepping import engine_of, greedy, tokens_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTEXT = 600


def model(**more: Any) -> Model:
    return Model.model_validate(
        {"task": "llm", "runtime": "transformers", "weights": "maker/tiny", "estimate": "1 MB", **more}
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    checkpoints.write_plain(folder)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(tiny: Path) -> AsyncIterator[TransformersChat]:
    loaded = await transformers_chat.load(model(), tiny)
    yield loaded
    await loaded.close()


async def answer(runtime: TransformersChat, prompt: str, sampling: Sampling) -> list[Piece]:
    return [piece async for piece in runtime.generate(prompt, sampling)]


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


async def test_what_a_processor_reads_for_each_token_lies_in_huge_pages(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[bool] = []
    monkeypatch.setattr("providers.packed.pack", lambda model: packed.append(False))
    monkeypatch.setattr(transformers_chat, "use_huge_pages", lambda: packed.append(True))
    loaded = await transformers_chat.load(model(), tiny)
    await loaded.close()
    assert packed == ([] if torch.cuda.is_available() else [False, True]), "once they lie where they stay"


async def test_it_is_a_chat_runtime_described_by_its_tokenizer(runtime: TransformersChat) -> None:
    assert isinstance(runtime, ChatRuntime)
    assert runtime.chat_template == checkpoints.PLAIN_TEMPLATE
    assert runtime.special_tokens == {"bos_token": "<|start|>", "eos_token": "<|end|>"}
    assert set(runtime.control_tokens) == {"<|start|>", "<|end|>"}
    assert runtime.context == CONTEXT, "the default asks for more than the model was trained with"


async def test_greedy_is_what_transformers_says(runtime: TransformersChat, tiny: Path) -> None:
    prompt = "<|start|>" + "Hello " * 60
    tokens = tokens_of(runtime, prompt)
    assert len(tokens) > STEP_TOKENS
    reference = LlamaForCausalLM.from_pretrained(tiny)
    said = reference.generate(torch.tensor([tokens]), do_sample=False, max_new_tokens=20)[0, len(tokens) :].tolist()
    assert greedy(engine_of(runtime), prompt, len(said)) == said


async def test_smollm2_answers_as_transformers_does(demo_models: Path) -> None:
    folder = safetensors_folder(demo_models)
    loaded = await transformers_chat.load(model(context=1024), folder)
    try:
        prompt = dialect.render(
            [{"role": "user", "content": "Where is the Eiffel Tower?"}],
            template=loaded.chat_template,
            special_tokens=loaded.special_tokens,
            control_tokens=loaded.control_tokens,
        )
        pieces = await answer(loaded, prompt, Sampling(temperature=0, max_tokens=16))
        library = AutoModelForCausalLM.from_pretrained(folder)
        library_tokenizer = AutoTokenizer.from_pretrained(folder)
        tokens = tokens_of(loaded, prompt)
        said = library.generate(torch.tensor([tokens]), do_sample=False, max_new_tokens=16)[0, len(tokens) :]
        assert text(pieces) == library_tokenizer.decode(said).removesuffix("<|im_end|>")
        assert "Paris" in text(pieces)
        assert pieces[-1].prompt_tokens == len(tokens)
    finally:
        await loaded.close()


async def test_it_stops_at_the_end_of_the_turn(runtime: TransformersChat, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = greedy(engine_of(runtime), "Hello", 1)
    monkeypatch.setattr(engine_of(runtime)._vocabulary, "ends", {first})
    assert await answer(runtime, "Hello", Sampling(temperature=0)) == [Piece("", 1, 5, "stop")]


async def test_it_stops_at_max_tokens(runtime: TransformersChat) -> None:
    pieces = await answer(runtime, "Hello", Sampling(temperature=0, max_tokens=3))
    assert sum(piece.tokens for piece in pieces) == 3
    assert pieces[-1].finish_reason == "length"


async def test_it_stops_when_the_context_is_full(runtime: TransformersChat) -> None:
    pieces = await answer(runtime, "x" * (CONTEXT - 4), Sampling(temperature=0))
    assert sum(piece.tokens for piece in pieces) <= 4
    assert pieces[-1].finish_reason is not None


async def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(runtime: TransformersChat) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"has 700 tokens.*600"):
        await answer(runtime, "x" * 700, Sampling())


async def test_an_empty_prompt_is_refused(runtime: TransformersChat) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        await answer(runtime, "", Sampling())


async def test_a_seed_gives_the_same_answer_again(runtime: TransformersChat) -> None:
    first, again, other = [
        text(await answer(runtime, "Hello", Sampling(max_tokens=16, seed=seed))) for seed in (7, 7, -8)
    ]
    assert first == again != other


async def test_a_tiny_top_p_leaves_only_the_likeliest(runtime: TransformersChat) -> None:
    narrow = await answer(runtime, "Hello", Sampling(max_tokens=8, temperature=2, top_p=1e-6))
    assert text(narrow) == text(await answer(runtime, "Hello", Sampling(max_tokens=8, temperature=0)))


async def test_closing_the_stream_stops_it(runtime: TransformersChat) -> None:
    async with aclosing(runtime.generate("Hello", Sampling(seed=1))) as pieces:
        await anext(pieces)
    assert await answer(runtime, "Hello", Sampling(max_tokens=1))


async def test_cancelling_stops_within_the_prompt(runtime: TransformersChat, monkeypatch: pytest.MonkeyPatch) -> None:
    stepped, cancelled = threading.Event(), threading.Event()
    passes: list[int] = []
    engine = engine_of(runtime)
    compute = engine._pass

    def slow(tokens: Any, positions: Any, kept: Any = 1) -> Any:
        passes.append(tokens["input_ids"].shape[1])
        stepped.set()
        cancelled.wait()
        return compute(tokens, positions, kept)

    monkeypatch.setattr(engine, "_pass", slow)
    task = asyncio.create_task(answer(runtime, "x" * 590, Sampling()))
    await asyncio.to_thread(stepped.wait)
    task.cancel()
    asyncio.get_running_loop().call_later(0.01, cancelled.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(passes) == 1


async def test_control_tokens_of_the_client_stay_text(runtime: TransformersChat) -> None:
    prompt = dialect.render(
        [{"role": "user", "content": "a<|end|>b"}],
        template=runtime.chat_template,
        special_tokens=runtime.special_tokens,
        control_tokens=runtime.control_tokens,
    )
    tokens = tokens_of(runtime, prompt)
    assert [token for token in tokens if token >= 257] == [257, 258, 257]


# Many at once


async def test_many_at_once_say_what_each_says_alone_whoever_leaves(tiny: Path) -> None:
    loaded = await transformers_chat.load(model(max_concurrency=3), tiny)
    engine_of(loaded)._model.float()
    try:
        prompts = [f"{number} " * (7 * number + 1) for number in range(8)]
        brief = Sampling(temperature=0, max_tokens=12)
        alone = [text(await answer(loaded, prompt, brief)) for prompt in prompts]

        async def leaves(prompt: str) -> None:
            async with aclosing(loaded.generate(prompt, Sampling(temperature=0))) as pieces:
                await anext(pieces)

        leaving = asyncio.gather(leaves("Hello"), leaves("x" * 500))
        together = await asyncio.gather(*(answer(loaded, prompt, brief) for prompt in prompts))
        await leaving
        assert [text(pieces) for pieces in together] == alone
        assert engine_of(loaded)._slots.bytes == 0
        assert not any(engine_of(loaded)._rows)
    finally:
        await loaded.close()


async def test_a_grammar_holds_one_answer_and_not_its_neighbour(tiny: Path) -> None:
    loaded = await transformers_chat.load(model(max_concurrency=2), tiny)
    try:
        held, free = await asyncio.gather(
            answer(loaded, "Hello", Sampling(temperature=0, max_tokens=20, grammar='start: "yes" | "no"')),
            answer(loaded, "Hello", Sampling(temperature=0, max_tokens=20)),
        )
    finally:
        await loaded.close()
    assert text(held) in ("yes", "no")
    assert held[-1].finish_reason == "stop"
    assert text(free) not in ("yes", "no")


async def test_the_next_turn_tells_what_was_not_computed_again(runtime: TransformersChat) -> None:
    brief = Sampling(temperature=0, max_tokens=2)
    assert (await answer(runtime, "turn " * 50, brief))[-1].cached_tokens == 0
    assert (await answer(runtime, "turn " * 50 + "more", brief))[-1].cached_tokens == 192


# Loading


async def test_a_folder_that_is_not_there_is_weights_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="maker/tiny is missing"):
        await transformers_chat.load(model(), tmp_path / "none")


async def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    checkpoints.write_plain(tmp_path, template=None)
    with pytest.raises(LoadFailed, match="maker/tiny has no chat template"):
        await transformers_chat.load(model(), tmp_path)


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "tokenizer.json"])
async def test_damaged_files_are_refused_without_a_path(tmp_path: Path, damage: str) -> None:
    checkpoints.write_plain(tmp_path)
    (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:100])
    with pytest.raises(LoadFailed, match="maker/tiny") as refused:
        await transformers_chat.load(model(), tmp_path)
    assert str(tmp_path) not in str(refused.value)


async def test_the_models_own_defaults_are_used(tmp_path: Path) -> None:
    checkpoints.write_plain(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"do_sample": True, "top_k": 1, "eos_token_id": [258]}))
    loaded = await transformers_chat.load(model(context=256), tmp_path)
    try:
        first, again = [text(await answer(loaded, "Hello", Sampling(max_tokens=8))) for _ in range(2)]
    finally:
        await loaded.close()
    assert first == again
    assert loaded.context == 256


async def test_no_other_model_is_built_meanwhile(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    build = AutoModelForCausalLM.from_pretrained
    taken: list[bool] = []

    def observed(*arguments: Any, **more: Any) -> Any:
        taken.append(TURN.locked())
        return build(*arguments, **more)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", observed)
    loaded = await transformers_chat.load(model(), tiny)
    await loaded.close()
    assert taken == [True]
    assert not TURN.locked()
