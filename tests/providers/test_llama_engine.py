"""Many answers at once from llama.cpp: SmolLM2, and a tiny Qwen3.5 whose states cannot be cut back."""

import asyncio
import json
import math
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import pytest
import pytest_asyncio

from llmux.config import Model
from llmux.errors import ContextLengthExceeded, InvalidRequest
from providers import llamacpp
from providers.constraint import json_rule
from providers.llamacpp import LlamaCpp
from providers.prefix import WORTH
from providers.runtime import Piece, Sampling
from tests import checkpoints
from tests.pictures import picture
from tests.qwen import SEEN, answer, asked, gguf, text

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOTS = 4
GREEDY = Sampling(max_tokens=10, temperature=0, logprobs=2)

ROUNDING = 0.5
"""By how much a logprob may differ with the sizes of batches and with the cells that a sequence lies in: kernels add up
in another order, and llama.cpp's attention on the CPU does so in 16 bits. 0.19 is the most that was seen of SmolLM2.
"""


SYSTEM = "You know everything about lighthouses, and nothing about anything else. " * 8


def smollm2(**more: Any) -> Model:
    return Model.model_validate(
        {
            "task": "llm",
            "runtime": "llama.cpp",
            "weights": "w",
            "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
            "estimate": "1 GB",
            "context": 768,
            "max_concurrency": SLOTS,
            **more,
        }
    )


def turns(*said: str) -> str:
    """The user and the model by turns, after a system prompt, in the markup of both models."""
    roles = ["system", *["user", "assistant"] * len(said)]
    messages = zip(roles, (SYSTEM, *said), strict=False)
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages) + "<|im_start|>assistant\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attention(demo_models: Path) -> AsyncIterator[LlamaCpp]:
    loaded = await llamacpp.load(smollm2(), demo_models / "smollm2-135m")
    yield loaded
    await loaded.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recurrent(qwen: Path) -> AsyncIterator[LlamaCpp]:
    loaded = await llamacpp.load(gguf(max_concurrency=SLOTS), qwen)
    yield loaded
    await loaded.close()


@pytest.fixture(params=["attention", "recurrent"])
def runtime(request: pytest.FixtureRequest) -> LlamaCpp:
    """Either of the two, knowing of nothing that other tests asked."""
    loaded: LlamaCpp = request.getfixturevalue(request.param)
    assert loaded._engine is not None
    loaded._engine._memory.clear()
    return loaded


def same(one: list[Piece], other: list[Piece]) -> bool:
    """Whether two greedy answers are equal but for rounding: token for token, until two tokens are as likely."""
    tokens = zip(*([token for piece in pieces for token in piece.logprobs] for pieces in (one, other)), strict=False)
    for mine, theirs in tokens:
        if mine.bytes != theirs.bytes:
            return bool(mine.logprob - mine.top[1][2] < ROUNDING)
        if abs(mine.logprob - theirs.logprob) > ROUNDING:
            return False
    return True


async def said(runtime: LlamaCpp, prompt: str, sampling: Sampling = GREEDY) -> str:
    return text(await answer(runtime, prompt, sampling=sampling))


def cached(pieces: list[Piece]) -> int:
    (tokens,) = {piece.cached_tokens for piece in pieces}
    return tokens


def left_behind(runtime: LlamaCpp) -> list[object]:
    assert runtime._engine is not None
    return [*runtime._engine._sequences, *runtime._engine._memory.running()]


async def test_answers_that_are_computed_together_are_what_each_is_alone(runtime: LlamaCpp) -> None:
    prompts = [asked(f"Count to {number}.") for number in range(3, 11)]
    alone = [await answer(runtime, prompt, sampling=GREEDY) for prompt in prompts]
    together = await asyncio.gather(*(answer(runtime, prompt, sampling=GREEDY) for prompt in prompts))
    assert all(map(same, alone, together))
    assert not left_behind(runtime)


async def test_the_next_turn_of_a_conversation_begins_where_the_last_one_was(runtime: LlamaCpp) -> None:
    first = await answer(runtime, turns("Where do they stand?"))
    second = await answer(runtime, turns("Where do they stand?", text(first), "How tall are they?"))
    assert cached(first) == 0
    assert cached(second) >= first[0].prompt_tokens - 16, "but for the beginning of the model's turn"


async def test_another_conversation_begins_with_the_same_system_prompt(runtime: LlamaCpp) -> None:
    first = await answer(runtime, turns("Where do they stand?"))
    other = await answer(runtime, turns("Who lives there?"))
    assert other[0].prompt_tokens - 40 < cached(other) < first[0].prompt_tokens


LONG = "A keeper asked how far the light of such a tower is seen by night, in rain, in fog and from a low boat. " * 3


def in_cells(runtime: LlamaCpp) -> list[int]:
    """Numbers of sequences that attention reads over."""
    memory = llama.llama_get_memory(runtime._context)
    numbers = range(llama.llama_n_seq_max(runtime._context))
    return [number for number in numbers if llama.llama_memory_seq_pos_max(memory, number) >= 0]


async def test_a_conversation_that_gave_way_to_another_goes_on_out_of_ram(runtime: LlamaCpp) -> None:
    assert runtime._engine is not None
    first = await answer(runtime, turns(LONG))
    others = range(SLOTS + llamacpp._KEPT_SEQUENCES)
    between = [await answer(runtime, turns(f"{number}, and {LONG}")) for number in others]
    assert len(in_cells(runtime)) == 1
    second = await answer(runtime, turns(LONG, text(first), "How tall are they?"), sampling=GREEDY)
    assert cached(second) >= first[0].prompt_tokens - 16, "but for the beginning of the model's turn"
    assert max(map(cached, between)) < cached(second) - WORTH
    runtime._engine._memory.clear()
    assert same(await answer(runtime, turns(LONG, text(first), "How tall are they?"), sampling=GREEDY), second)


async def test_conversations_by_turns_are_what_each_is_alone(runtime: LlamaCpp) -> None:
    assert runtime._engine is not None
    talks = [[turns(f"{number}, and {LONG}", *["Far.", "Why?"] * more) for more in range(3)] for number in range(3)]
    alone = []
    for talk in talks:
        runtime._engine._memory.clear()
        alone.append([await answer(runtime, prompt, sampling=GREEDY) for prompt in talk])
    runtime._engine._memory.clear()
    for turn, _ in enumerate(talks[0]):
        for talk, expected in zip(talks, alone, strict=True):
            heard = await answer(runtime, talk[turn], sampling=GREEDY)
            assert same(heard, expected[turn])
            assert abs(cached(heard) - cached(expected[turn])) < WORTH or not turn


@pytest.mark.parametrize(("prefix_cache", "window"), [("0.02 MB", None), ("2 GB", 16)])
async def test_a_conversation_that_cannot_give_way_stays(tmp_path: Path, prefix_cache: str, window: int | None) -> None:
    """No room for it in RAM; or llama.cpp would only copy the tokens that lie in the window of the next one."""
    checkpoints.write_llama_gguf(tmp_path / "tiny.gguf", template="{{ messages[0].content }}", window=window)
    loaded = await llamacpp.load(smollm2(file="tiny.gguf", context=256, prefix_cache=prefix_cache), tmp_path)
    try:
        prompts = ["lighthouse " * 10, "cliff " * 20, "lighthouse " * 11]
        first, other, second = [await answer(loaded, prompt, sampling=GREEDY) for prompt in prompts]
        assert cached(first) <= cached(other) < 8, "how every prompt begins"
        assert cached(second) >= first[0].prompt_tokens - 1
        assert len(in_cells(loaded)) == 2
        assert loaded._engine is not None
        loaded._engine._memory.clear()
        assert same(await answer(loaded, prompts[2], sampling=GREEDY), second)
    finally:
        await loaded.close()


async def test_what_is_reused_changes_nothing(runtime: LlamaCpp) -> None:
    assert runtime._engine is not None
    prompts = [turns("Where?"), turns("Where?", "By the sea.", "Why?"), turns("Who?"), turns("Where?", "Here.", "Why?")]
    fresh = []
    for prompt in prompts:
        runtime._engine._memory.clear()
        fresh.append(await answer(runtime, prompt, sampling=GREEDY))
    runtime._engine._memory.clear()
    again = [await answer(runtime, prompt, sampling=GREEDY) for prompt in prompts]
    assert all(map(same, fresh, again))
    assert any(map(cached, again))


async def test_several_choices_compute_their_prompt_once(runtime: LlamaCpp) -> None:
    several = await asyncio.gather(*(answer(runtime, turns("Where do they stand?")) for _ in range(SLOTS)))
    counts = sorted(cached(pieces) for pieces in several)
    assert counts[0] == 0
    assert counts[1] >= several[0][0].prompt_tokens - WORTH - 16, "for the rest none waits"


async def test_a_seed_gives_the_same_answer_whatever_was_asked_before(runtime: LlamaCpp) -> None:
    sampling = Sampling(max_tokens=12, temperature=1.5, seed=7)
    first = await said(runtime, turns("Where?"), sampling)
    await said(runtime, turns("Where?", "By the sea.", "Why?"))
    pieces = await answer(runtime, turns("Where?"), sampling=sampling)
    assert text(pieces) == first
    assert cached(pieces) == 0
    assert cached(await answer(runtime, turns("Where?", "By the sea.", "How?"))) > WORTH, "what others said is not lost"


async def test_logprobs_are_those_of_every_token(runtime: LlamaCpp) -> None:
    pieces = await answer(runtime, asked("Hello"), sampling=Sampling(max_tokens=8, temperature=0, logprobs=3))
    assert [len(piece.logprobs) for piece in pieces] == [piece.tokens for piece in pieces]
    tokens = [token for piece in pieces for token in piece.logprobs]
    assert b"".join(token.bytes for token in tokens).decode(errors="replace").startswith(text(pieces)[:-1])
    for token in tokens:
        assert token.top[0] == (token.token, token.bytes, token.logprob), "the likeliest was taken"
        assert 0 > token.top[0][2] >= token.top[1][2] >= token.top[2][2]
        assert sum(math.exp(likely) for _, _, likely in token.top) <= 1 + 1e-9
    only = await answer(runtime, asked("Hello"), sampling=Sampling(max_tokens=1, temperature=0, logprobs=0))
    assert [token.top for piece in only for token in piece.logprobs] == [[]]


async def test_a_grammar_holds_its_own_answer_and_no_other(runtime: LlamaCpp) -> None:
    schema = {
        "additionalProperties": False,
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
    }
    held = Sampling(max_tokens=300, temperature=0.8, grammar=f"start: {json_rule(schema)}")
    free = asked("Count to three.")
    alone = await answer(runtime, free, sampling=GREEDY)
    beside, broken, *answers = await asyncio.gather(
        answer(runtime, free, sampling=GREEDY),
        said(runtime, asked("Which?"), Sampling(grammar="start: %")),
        *(said(runtime, asked(f"Which colour is {number}?"), held) for number in range(6)),
        return_exceptions=True,
    )
    assert isinstance(beside, list)
    assert same(alone, beside)
    assert isinstance(broken, InvalidRequest)
    assert {json.loads(str(answer))["colour"] for answer in answers} <= {"red", "blue"}


async def test_an_answer_goes_on_beside_a_long_prompt(runtime: LlamaCpp) -> None:
    forever = Sampling(max_tokens=400, temperature=0, logit_bias=never_ending(runtime))
    async with aclosing(runtime.generate(asked("Hello"), forever)) as running:
        await anext(running)
        long = asyncio.create_task(answer(runtime, asked("word " * 90), sampling=Sampling(max_tokens=1)))
        beside = 0
        while not long.done():
            beside += (await anext(running)).tokens
        assert cached(await long) < 8, "how every prompt begins"
    assert beside >= 2


def never_ending(runtime: LlamaCpp) -> dict[int, float]:
    return {token: -100.0 for token in range(runtime._vocabulary.size) if runtime._vocabulary.ends(token)}


async def test_cancelling_within_a_prompt_disturbs_nobody(runtime: LlamaCpp) -> None:
    named = Sampling(max_tokens=48, temperature=0, logprobs=2)
    alone = await answer(runtime, asked("Name a colour."), sampling=named)
    running = asyncio.create_task(answer(runtime, asked("Name a colour."), sampling=named))
    for words in (90, 120):
        prompt = asyncio.create_task(said(runtime, asked("word " * words)))
        await asyncio.sleep(0)
        prompt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await prompt
    assert same(await running, alone)
    assert not left_behind(runtime)


async def test_a_context_that_overflows_is_refused_beside_others(runtime: LlamaCpp) -> None:
    good, refused = await asyncio.gather(
        answer(runtime, asked("Name a colour."), sampling=GREEDY),
        said(runtime, asked("word " * runtime.context)),
        return_exceptions=True,
    )
    assert isinstance(good, list)
    assert same(good, await answer(runtime, asked("Name a colour."), sampling=GREEDY))
    assert isinstance(refused, ContextLengthExceeded)


async def test_every_slot_may_fill_its_context(tmp_path: Path) -> None:
    """What is kept of those before makes room."""
    checkpoints.write_llama_gguf(tmp_path / "tiny.gguf", template="{{ messages[0].content }}")
    loaded = await llamacpp.load(smollm2(file="tiny.gguf", context=256), tmp_path)
    endless = Sampling(temperature=0, logit_bias=never_ending(loaded))
    try:
        prompts = [f"{number} " + "word " * 20 for number in range(3 * SLOTS)]
        for pieces in await asyncio.gather(*(answer(loaded, prompt, sampling=endless) for prompt in prompts)):
            assert pieces[0].prompt_tokens + sum(piece.tokens for piece in pieces) == loaded.context
    finally:
        await loaded.close()


async def test_the_same_image_is_not_looked_at_again(recurrent: LlamaCpp) -> None:
    assert recurrent._engine is not None
    recurrent._engine._memory.clear()
    one, other = picture(1), picture(2)

    async def about(image: Any, *more: str) -> list[Piece]:
        prompt = turns(f"{SEEN}What is it?", *more)
        return [piece async for piece in recurrent.generate(prompt, GREEDY, [image])]

    first = await about(one)
    again = await about(one, "A thing.", "Which colour?")
    different = await about(other, "A thing.", "Which colour?")
    assert cached(again) >= first[0].prompt_tokens - 16
    assert cached(different) < first[0].prompt_tokens - 80, "what came before the image"
    recurrent._engine._memory.clear()
    assert same(await about(other, "A thing.", "Which colour?"), different)


async def test_an_image_is_looked_at_while_others_write(recurrent: LlamaCpp) -> None:
    async def about() -> list[Piece]:
        return [piece async for piece in recurrent.generate(turns(f"{SEEN}What is it?"), GREEDY, [picture(3)])]

    assert recurrent._engine is not None
    recurrent._engine._memory.clear()
    alone = await about()
    recurrent._engine._memory.clear()
    forever = Sampling(max_tokens=400, temperature=0, logit_bias=never_ending(recurrent))
    async with aclosing(recurrent.generate(asked("Hello"), forever)) as running:
        await anext(running)
        assert same(alone, await about())
        assert (await anext(running)).finish_reason is None


async def test_what_was_seen_is_known_after_others_were_served(recurrent: LlamaCpp) -> None:
    assert recurrent._engine is not None
    recurrent._engine._memory.clear()
    talk = [asked(f"{SEEN}What?"), asked(f"{SEEN}What?<|im_end|>\n<|im_start|>user\nWhy? {LONG}")]

    async def about(prompt: str) -> list[Piece]:
        return [piece async for piece in recurrent.generate(prompt, GREEDY, [picture(4)])]

    first = await about(talk[0])
    for number in range(3):
        await answer(recurrent, turns(f"{number}, and {LONG}"))
    again = await about(talk[1])
    assert cached(again) >= first[0].prompt_tokens - 16
    recurrent._engine._memory.clear()
    assert same(await about(talk[1]), again)


async def test_cells_that_left_a_window_are_not_relied_on(tmp_path: Path) -> None:
    """llama.cpp gives them to whoever comes next."""
    checkpoints.write_llama_gguf(tmp_path / "tiny.gguf", template="{{ messages[0].content }}", window=16)
    loaded = await llamacpp.load(smollm2(file="tiny.gguf", context=256), tmp_path)
    try:
        await asyncio.gather(*(answer(loaded, prompt, sampling=GREEDY) for prompt in ("x" * 10, "y" * 100)))
        await answer(loaded, "z" * 150, sampling=GREEDY)
        again = await answer(loaded, "y" * 50 + "w", sampling=GREEDY)
        assert loaded._engine is not None
        loaded._engine._memory.clear()
        assert same(await answer(loaded, "y" * 50 + "w", sampling=GREEDY), again)
    finally:
        await loaded.close()


async def test_kept_states_stay_within_their_bound(qwen: Path) -> None:
    loaded = await llamacpp.load(gguf(max_concurrency=2, prefix_cache="0.1 MB"), qwen)
    try:
        for number in range(6):
            await said(loaded, turns(f"{number}"))
        assert loaded._engine is not None
        memory = loaded._engine._memory
        assert 0 < memory._states.bytes + memory._copies.bytes <= 100_000
    finally:
        await loaded.close()


@pytest.mark.parametrize("seed", range(3))
async def test_random_joins_and_leaves_leave_nothing_behind(runtime: LlamaCpp, seed: int) -> None:
    draw = random.Random(seed)
    questions = [turns(f"What is {number}?", "It is.", "Is it?")[: draw.randrange(700, 900)] for number in range(4)]
    alone = {question: await answer(runtime, question, sampling=GREEDY) for question in questions}

    async def one() -> bool:
        question = draw.choice(questions)
        stays = draw.choice([0, 3, 100])
        heard = []
        for _ in range(draw.randrange(40)):
            await asyncio.sleep(0)
        async with aclosing(runtime.generate(question, GREEDY)) as pieces:
            async for piece in pieces:
                heard.append(piece)
                stays -= piece.tokens
                if stays < 0:
                    break
        return same(alone[question], heard)

    assert all(await asyncio.gather(*(one() for _ in range(24))))
    assert not left_behind(runtime)
    for question in questions:
        kept = await answer(runtime, question, sampling=GREEDY)
        assert same(alone[question], kept), "all that is kept is worth what it was"
