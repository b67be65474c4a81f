"""An engine for safetensors, driven step by step."""

from collections.abc import Sequence

from providers.context import Request
from providers.runtime import Image, Sampling
from providers.torch_engine import STEP_TOKENS, TorchEngine, TorchSequence
from providers.transformers_chat import TransformersChat

GREEDY = Sampling(temperature=0)


def engine_of(runtime: TransformersChat) -> TorchEngine:
    assert runtime._engine is not None
    return runtime._engine


def tokens_of(runtime: TransformersChat, prompt: str) -> list[int]:
    return engine_of(runtime)._vocabulary.tokenize(prompt)


def begin(engine: TorchEngine, prompt: str, images: Sequence[Image] = ()) -> TorchSequence:
    """A greedy sequence, its prompt computed and its first token picked."""
    sequence = engine.add(Request(prompt, GREEDY, images))
    while sequence.left:
        engine.step([(sequence, STEP_TOKENS)])
    return sequence


def greedy(engine: TorchEngine, prompt: str, count: int, images: Sequence[Image] = ()) -> list[int]:
    """The likeliest tokens after a prompt, beyond an end too."""
    sequence = begin(engine, prompt, images)
    for _ in range(count - 1):
        engine.step([(sequence, 1)])
    engine.remove(sequence)
    return sequence.tokens[sequence.prompt_tokens :]
