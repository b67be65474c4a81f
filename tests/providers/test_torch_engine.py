"""Several sequences at once, on tiny models of each family, in float32: so that what differs is not rounding alone."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from llmux.errors import InvalidRequest
from providers.context import Request
from providers.kept_blocks import KeptBlocks
from providers.runtime import Image, Piece, Sampling
from providers.torch_engine import STEP_TOKENS, TorchEngine, TorchSequence
from providers.torch_vocabulary import TorchVocabulary
from providers.vision import Vision
from tests import checkpoints
from tests.pictures import picture
from tests.qwen import SEEN

ROWS = 4
CONTEXT = 600
TOLERANCE = 1e-3
"""Between the logprobs of a sequence alone and among others."""

FAMILIES = ["plain", "gpt-oss", "qwen", "qwen with eyes"]


def engine_for(family: str, folder: Path, kept_bytes: int = 10**9) -> TorchEngine:
    write: Any = {"plain": checkpoints.write_plain, "gpt-oss": checkpoints.write_gpt_oss}.get(family)
    if write is not None:
        write(folder)
    else:
        checkpoints.write_qwen(folder, vision="eyes" in family)
    kind = AutoModelForImageTextToText if "eyes" in family else AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    vocabulary = TorchVocabulary(
        AutoTokenizer.from_pretrained(folder), [None], model.config.get_text_config().vocab_size
    )
    return TorchEngine(
        model,
        vocabulary,
        Vision(folder, model, "cpu") if "eyes" in family else None,
        Sampling(temperature=0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0),
        device="cpu",
        context=CONTEXT,
        rows=ROWS,
        kept_bytes=kept_bytes,
    )


@pytest.fixture(scope="module", params=FAMILIES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchEngine:
    return engine_for(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture
def engine(shared: TorchEngine) -> Iterator[TorchEngine]:
    shared._kept_blocks.clear()
    yield shared
    assert not any(shared._rows)
    assert shared._slots.bytes == 0


@pytest.fixture
def forgetful(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> TorchEngine:
    """The same, but it keeps no prefixes."""
    monkeypatch.setattr(engine, "_kept_blocks", KeptBlocks(0))
    return engine


def start_token(engine: TorchEngine) -> str:
    return "<|im_start|>" if "<|im_start|>" in engine._vocabulary.control_tokens else "<|start|>"


def said(message: str, engine: TorchEngine) -> str:
    return f"{start_token(engine)}{message}"


class Watched:
    """Drives an engine by hand, and takes down what it wrote of each sequence, logits included."""

    def __init__(self, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = engine
        self.pieces: dict[TorchSequence, list[Piece | Exception]] = {}
        self.logits: dict[TorchSequence, list[torch.Tensor]] = {}
        self.passes: list[tuple[int, ...]] = []
        write, compute = engine._write, engine._pass

        def watched(sequence: TorchSequence, logits: torch.Tensor) -> Any:
            self.logits[sequence].append(logits.clone())
            return write(sequence, logits)

        def counted(tokens: Any, positions: Any, kept: Any = 1) -> Any:
            self.passes.append(tuple(next(iter(tokens.values())).shape[:2]))
            return compute(tokens, positions, kept)

        monkeypatch.setattr(engine, "_write", watched)
        monkeypatch.setattr(engine, "_pass", counted)

    def add(self, prompt: str, images: list[Image] | None = None, **sampling: Any) -> TorchSequence:
        sequence = self.engine.add(Request(prompt, Sampling(**sampling), images or []))
        self.pieces[sequence], self.logits[sequence] = [], []
        return sequence

    def step(self, *sequences: TorchSequence, tokens: int = STEP_TOKENS) -> None:
        shares = [(each, 1 if each.left == 0 else tokens) for each in sequences if each.left is not None]
        for sequence, piece in self.engine.step(shares).items():
            self.pieces[sequence].append(piece)

    def prompt(self, sequence: TorchSequence) -> None:
        while sequence.left:
            self.step(sequence)

    def alone(self, prompt: str, count: int, images: list[Image] | None = None, **sampling: Any) -> TorchSequence:
        sequence = self.add(prompt, images, **sampling)
        self.prompt(sequence)
        for _ in range(count - 1):
            self.step(sequence)
        self.engine.remove(sequence)
        return sequence

    def logprobs(self, sequence: TorchSequence) -> torch.Tensor:
        return torch.log_softmax(torch.stack(self.logits[sequence]), -1)


@pytest.fixture
def watched(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(engine, monkeypatch)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(torch.allclose(one, other, atol=TOLERANCE, rtol=0))


# Batches


def test_a_sequence_among_others_is_as_likely_as_alone(
    forgetful: TorchEngine, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of different lengths, some longer than a window of 16; they join one after the other."""
    prompts = ["Hello", "many words " * 5, "a" * 15, "and still more words " * 14]
    wanted = [watched.alone(prompt, 40) for prompt in prompts]
    together: list[TorchSequence] = []
    for prompt in prompts:
        together.append(watched.add(prompt))
        watched.prompt(together[-1])
        for _ in range(5):
            watched.step(*together)
    assert max(rows for rows, _ in watched.passes) == ROWS
    for sequence, alone in zip(together, wanted, strict=True):
        while len(watched.logits[sequence]) < 40:
            watched.step(*(each for each in together if len(watched.logits[each]) < 40))
        assert sequence.tokens == alone.tokens
        assert close(watched.logprobs(sequence), watched.logprobs(alone))
    for sequence in together:
        forgetful.remove(sequence)


def test_prompts_in_small_parts_between_steps_change_nothing(forgetful: TorchEngine, watched: Watched) -> None:
    short, long = "Hello", "a long way to go " * 20
    wanted = [watched.alone(short, 30), watched.alone(long, 10)]
    first = watched.add(short)
    watched.prompt(first)
    second = watched.add(long)
    while second.left:
        before = len(watched.logits[first])
        watched.step(first, second, tokens=23)
        assert len(watched.logits[first]) == before + 1, "the answer goes on beside a long prompt"
    assert watched.passes.count((1, 23)) == second.prompt_tokens // 23
    for _ in range(9):
        watched.step(first, second)
    for sequence, alone in zip((first, second), wanted, strict=True):
        count = len(watched.logits[sequence])
        assert close(watched.logprobs(sequence), watched.logprobs(alone)[:count])
        forgetful.remove(sequence)


def test_prompts_that_come_together(forgetful: TorchEngine, watched: Watched) -> None:
    """With full attention alone, those of about one length are computed in one pass."""
    prompts = ["a question " * 3, "another one " * 4, "b" * 20, "long " * 60]
    wanted = [watched.alone(prompt, 6) for prompt in prompts]
    together = [watched.add(prompt) for prompt in prompts]
    watched.passes.clear()
    for tokens in (9, 30, 256):
        watched.step(*(each for each in together if each.left), tokens=tokens)
    assert forgetful._slots.stateful or (4, 9) in watched.passes
    for _ in range(8):
        watched.step(*(each for each in together if len(watched.logits[each]) < 6))
    for sequence, alone in zip(together, wanted, strict=True):
        assert close(watched.logprobs(sequence), watched.logprobs(alone))
        forgetful.remove(sequence)


def test_a_prompt_that_fills_the_context_beside_a_shorter_one(forgetful: TorchEngine, watched: Watched) -> None:
    prompts = ["x" * (CONTEXT - 3), "y" * 120]
    wanted = [watched.alone(prompt, 2) for prompt in prompts]
    together = [watched.add(prompt) for prompt in prompts]
    while any(each.left for each in together):
        watched.step(*(each for each in together if each.left), tokens=100)
    watched.step(*together)
    for sequence, alone in zip(together, wanted, strict=True):
        assert close(watched.logprobs(sequence)[:2], watched.logprobs(alone))
        forgetful.remove(sequence)


def test_who_pauses_misses_nothing(forgetful: TorchEngine, watched: Watched) -> None:
    prompts = ["One", "two and two", "three " * 9]
    wanted = [watched.alone(prompt, 12) for prompt in prompts]
    together = [watched.add(prompt) for prompt in prompts]
    for each in together:
        watched.prompt(each)
    draw = random.Random(0)
    while any(len(watched.logits[each]) < 12 for each in together):
        unfinished = [each for each in together if len(watched.logits[each]) < 12]
        watched.step(*draw.sample(unfinished, draw.randint(1, len(unfinished))))
    for sequence, alone in zip(together, wanted, strict=True):
        assert close(watched.logprobs(sequence), watched.logprobs(alone))
        forgetful.remove(sequence)


@pytest.mark.parametrize("seed", range(3))
def test_whoever_joins_leaves_and_is_cancelled_nothing_stays(
    engine: TorchEngine, watched: Watched, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who stays to the end was not disturbed."""
    draw = random.Random(seed)
    prompts = [said("word " * draw.randint(1, 60), engine) + said(str(number), engine) for number in range(12)]
    wanted = {prompt: watched.alone(prompt, 8) for prompt in prompts}
    engine._kept_blocks.clear()
    waiting, running, whole = list(prompts), dict[TorchSequence, str](), 0
    while waiting or running:
        while waiting and len(running) < ROWS:
            prompt = waiting.pop()
            running[watched.add(prompt)] = prompt
        watched.step(*draw.sample(list(running), draw.randint(1, len(running))), tokens=draw.choice((7, 50, 256)))
        for sequence, prompt in list(running.items()):
            if len(watched.logits[sequence]) >= 8:
                assert close(watched.logprobs(sequence), watched.logprobs(wanted[prompt])[: len(sequence.tokens)])
                whole += 1
            elif draw.random() > 0.06:
                continue
            engine.remove(sequence)
            del running[sequence]
    assert whole
    assert engine._slots.bytes == 0
    assert sum(size for _, size in engine._kept_blocks._kept.values()) == engine._kept_blocks.bytes
    engine.close()
    assert engine._kept_blocks.bytes == 0


def test_what_one_sequence_gets_wrong_is_its_own(
    engine: TorchEngine, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = watched.add("Hello"), watched.add("Hallo")
    for each in (good, bad):
        watched.prompt(each)
    monkeypatch.setattr(bad.sampler, "pick", lambda _: 1 / 0)
    watched.step(good, bad)
    assert isinstance(watched.pieces[bad][-1], ZeroDivisionError)
    engine.remove(bad)
    before = len(watched.logits[good])
    watched.step(good)
    assert len(watched.logits[good]) == before + 1
    engine.remove(good)


def test_a_device_that_is_full_ends_the_step(engine: TorchEngine, watched: Watched) -> None:
    sequence = watched.add("Hello")

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "_pass", full)
        with pytest.raises(torch.OutOfMemoryError):
            watched.step(sequence)
    engine.remove(sequence)


def test_a_request_that_is_refused_takes_no_row(engine: TorchEngine) -> None:
    with pytest.raises(InvalidRequest):
        engine.add(Request("", Sampling()))
    assert not any(engine._rows)


# Logprobs


def test_logprobs_are_the_models_own(forgetful: TorchEngine, watched: Watched) -> None:
    """Whatever is done to the logits before a token is picked."""
    sequence = watched.alone("Hello", 5, logprobs=3, max_tokens=5, temperature=2.0, logit_bias={65: 50.0}, seed=1)
    pieces = [piece for piece in watched.pieces[sequence] if isinstance(piece, Piece)]
    assert pieces[-1].finish_reason == "length"
    told = [each for piece in pieces for each in piece.logprobs]
    assert len(told) == sum(piece.tokens for piece in pieces) == 5
    spelt = forgetful._vocabulary.words.tokens
    for each, token, logits in zip(told, sequence.tokens[-5:], watched.logits[sequence], strict=True):
        own = torch.log_softmax(logits, -1)
        assert each.bytes == spelt[token]
        assert each.logprob == pytest.approx(float(own[token]), abs=1e-5)
        assert [other for _, other, _ in each.top] == [spelt[other] for other in own.topk(3).indices.tolist()]


def test_no_logprobs_are_told_unless_they_are_asked_for(forgetful: TorchEngine, watched: Watched) -> None:
    sequence = watched.alone("Hello", 4)
    assert all(isinstance(piece, Piece) and piece.logprobs == () for piece in watched.pieces[sequence])


# Beginnings that are kept


def test_the_next_turn_computes_only_what_is_new(engine: TorchEngine, watched: Watched) -> None:
    talk = said("system: be brief. " * 12, engine) + said("user: " + "a question " * 8, engine)
    turn = said("model:", engine)
    first = watched.alone(talk + turn, 6)
    later = talk + said("model: an answer" + "user: more", engine) + turn
    wanted = watched.alone(later, 6)
    again_from = wanted.cached
    engine._kept_blocks.clear()
    unaided = watched.alone(later, 6)
    assert (first.cached, unaided.cached) == (0, 0)
    assert again_from >= len(engine._vocabulary.tokenize(talk)) - KeptBlocks.BLOCK
    assert close(watched.logprobs(wanted), watched.logprobs(unaided))


def test_another_conversation_shares_the_first_message(engine: TorchEngine, watched: Watched) -> None:
    system, turn = said("system: be brief. " * 12, engine), said("model:", engine)
    watched.alone(system + said("user: this", engine) + turn, 3)
    second = watched.alone(system + said("user: something else", engine) + turn, 3)
    assert second.cached >= len(engine._vocabulary.tokenize(system)) - KeptBlocks.BLOCK
    assert isinstance(watched.pieces[second][-1], Piece)
    assert all(piece.cached_tokens == second.cached for piece in watched.pieces[second] if isinstance(piece, Piece))


def test_the_same_prompt_at_once_is_computed_once(engine: TorchEngine, watched: Watched) -> None:
    prompt = said("user: " + "a question " * 20, engine) + said("model:", engine)
    first, second = watched.add(prompt), watched.add(prompt)
    while first.left:
        assert second.left is None
        watched.step(first, second, tokens=100)
    watched.prompt(second)
    assert second.cached > 100
    assert close(watched.logprobs(first), watched.logprobs(second))
    for each in (first, second):
        engine.remove(each)


def test_a_seed_gives_the_same_logits_whatever_was_kept(engine: TorchEngine, watched: Watched) -> None:
    prompt = said("user: " + "a question " * 20, engine) + said("model:", engine)
    first, again = (watched.alone(prompt, 3, seed=1, temperature=1.0) for _ in range(2))
    assert (first.cached, again.cached) == (0, 0)
    assert first.tokens == again.tokens
    assert torch.equal(watched.logprobs(first), watched.logprobs(again))


def test_who_waited_for_a_prompt_that_was_cancelled_computes_it(engine: TorchEngine, watched: Watched) -> None:
    prompt = said("user: " + "a question " * 20, engine)
    first, second = watched.add(prompt), watched.add(prompt)
    watched.step(first, tokens=10)
    engine.remove(first)
    assert second.left == second.prompt_tokens
    watched.prompt(second)
    assert len(watched.logits[second]) == 1
    engine.remove(second)


# Images


@pytest.fixture
def seeing(tmp_path_factory: pytest.TempPathFactory) -> TorchEngine:
    return engine_for("qwen with eyes", tmp_path_factory.mktemp("seeing"))


@pytest.fixture
def watched_eyes(seeing: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(seeing, monkeypatch)


def test_who_sees_and_who_reads_go_together(watched_eyes: Watched, seeing: TorchEngine) -> None:
    seeing._kept_blocks = KeptBlocks(0)
    seen = f"<|im_start|>user\n{SEEN}{SEEN}What are they?<|im_end|>"
    images = [picture(0, 300, 200), picture(1, 64, 64)]
    wanted = watched_eyes.alone(seen, 10, images), watched_eyes.alone("Hello", 20)
    reads = watched_eyes.add("Hello")
    watched_eyes.prompt(reads)
    sees = watched_eyes.add(seen, images)
    while len(watched_eyes.logits[sees]) < 10:
        watched_eyes.step(sees, reads, tokens=40)
    assert close(watched_eyes.logprobs(sees), watched_eyes.logprobs(wanted[0]))
    count = min(20, len(watched_eyes.logits[reads]))
    assert close(watched_eyes.logprobs(reads)[:count], watched_eyes.logprobs(wanted[1])[:count])


def test_an_image_is_the_same_prefix_only_if_it_is_the_same_image(
    watched_eyes: Watched, seeing: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    assert seeing._vision is not None
    look = seeing._vision.look

    def counted(seen: Any, number: int) -> torch.Tensor:
        looks.append(number)
        return look(seen, number)

    monkeypatch.setattr(seeing._vision, "look", counted)
    asked = f"<|im_start|>user\n{SEEN}What is it?<|im_end|>"
    turn = "<|im_start|>assistant\n"
    watched_eyes.alone(asked + turn, 3, [picture(0, 300, 300)])
    assert looks == [0]
    later = asked + "<|im_start|>assistant\nA thing.<|im_end|><|im_start|>user\nSure?<|im_end|>" + turn
    same = watched_eyes.alone(later, 4, [picture(0, 300, 300)])
    assert same.cached > 0
    assert looks == [0], "it is not looked at again"
    other = watched_eyes.alone(later, 4, [picture(1, 300, 300)])
    assert other.cached == 0
    seeing._kept_blocks.clear()
    unaided = watched_eyes.alone(later, 4, [picture(0, 300, 300)])
    assert close(watched_eyes.logprobs(same), watched_eyes.logprobs(unaided))
