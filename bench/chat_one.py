"""`python -m bench chat-one`: one stream of SmolLM2 through the gateway, beside the same runtime alone."""

import argparse
import asyncio
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx

from bench.chat_client import chunks, streamed
from bench.gateway import gateway
from llmux.litellm_settings import ENVIRONMENT

MESSAGES = [{"role": "user", "content": "Write a long story about a dragon and a lighthouse."}]
TOKENS = 96

LEAST_SHARE = 0.95
"""Of the tokens per second that the runtime makes alone."""
MOST_S_MORE = 0.040
"""To the first token."""

CONFIG = """\
model_list:
  - {{model_name: llama.cpp, litellm_params: {{model: llmux/llama.cpp}}}}
  - {{model_name: transformers, litellm_params: {{model: llmux/transformers}}}}
llmux:
  budget: 700 MB
  database: none
  models_dir: {models}
  models:
    llama.cpp: {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: {gguf}, context: 2048, estimate: 300 MB}}
    transformers: {{task: llm, runtime: transformers, weights: {folder}, context: 2048, estimate: 500 MB}}
"""
"""Room for one model at a time, as the process beside it has one: the threads of two share a limit."""


@dataclass(frozen=True, slots=True)
class Run:
    """One answer: seconds to its first text, and tokens per second from there on."""

    first_s: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Medians of many runs, alone and through the gateway.

    share: of the tokens per second, in a run through the gateway, of those in the run alone just before: how fast the
    machine is, changes from one minute to the next by more than the gateway costs
    """

    runtime: str
    alone: Run
    gateway: Run
    share: float

    @property
    def s_more(self) -> float:
        return self.gateway.first_s - self.alone.first_s

    @property
    def met(self) -> bool:
        return self.share >= LEAST_SHARE and self.s_more <= MOST_S_MORE


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench chat-one", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="answers of each kind, by turns (default 15)")
    rounds = parser.parse_args(options).rounds
    os.environ.update(ENVIRONMENT)  # before torch starts its threads, as the gateway does
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}")
    verdicts = asyncio.run(measured(rounds))
    print("\n".join(table(verdicts)))
    return 0 if all(verdict.met for verdict in verdicts) else 1


async def measured(rounds: int) -> list[Verdict]:
    from bench.smollm2 import GGUF, safetensors_folder
    from demo.models import cache_folder

    made = safetensors_folder()
    models = cache_folder()
    alone = {"llama.cpp": models / "smollm2-135m", "transformers": made}
    with gateway(CONFIG.format(models=models, gguf=GGUF, folder=made.name)) as client:
        return [await _compared(name, folder, GGUF, client, rounds) for name, folder in alone.items()]


async def _compared(name: str, folder: Any, gguf: str, client: httpx.Client, rounds: int) -> Verdict:
    from llmux.config import Model
    from providers import dialect, llamacpp, transformers_chat
    from providers.runtime import ChatRuntime, Sampling

    entry = {"task": "llm", "runtime": name, "weights": "smollm2", "file": gguf, "context": 2048, "estimate": "1 GB"}
    load: Any = (llamacpp if name == "llama.cpp" else transformers_chat).load
    runtime: ChatRuntime = await load(Model.model_validate(entry), folder)
    try:
        prompt = dialect.render(
            MESSAGES,
            template=runtime.chat_template,
            special_tokens=runtime.special_tokens,
            control_tokens=runtime.control_tokens,
        )

        async def by_itself() -> Run:
            began_s, texts_s, tokens = time.perf_counter(), [], 0
            async for piece in runtime.generate(prompt, Sampling(max_tokens=TOKENS, temperature=0)):
                tokens += piece.tokens
                if piece.text:
                    texts_s.append(time.perf_counter())
            return run_of(began_s, texts_s, tokens)

        runs: list[tuple[Run, Run]] = []
        for number in range(rounds + 1):
            pair = (await by_itself(), await asyncio.to_thread(through_gateway, client, name))
            if number:  # the first of each loads, or warms up
                runs.append(pair)
    finally:
        await runtime.close()
    return verdict(name, runs)


def verdict(name: str, runs: Sequence[tuple[Run, Run]]) -> Verdict:
    """runs: pairs of one alone and one through the gateway"""
    alone, through = middle([pair[0] for pair in runs]), middle([pair[1] for pair in runs])
    return Verdict(name, alone, through, median(gateway.tokens_per_s / by.tokens_per_s for by, gateway in runs))


def through_gateway(client: httpx.Client, name: str) -> Run:
    """One streamed answer."""
    key = client.headers["Authorization"].removeprefix("Bearer ")
    came = streamed(str(client.base_url).rstrip("/"), key, name, MESSAGES, TOKENS)
    texts_s, tokens = [], 0
    for at_s, chunk in chunks(came.parts):
        if any(choice["delta"].get("content") for choice in chunk["choices"]):
            texts_s.append(at_s)
        if usage := chunk.get("usage"):
            tokens = usage["completion_tokens"]
    return run_of(came.asked_s, texts_s, tokens)


def run_of(began_s: float, texts_s: Sequence[float], tokens: int) -> Run:
    """texts_s: when each text came

    Raises RuntimeError for an answer that ended early: it would be compared with longer ones.
    """
    if tokens != TOKENS:
        raise RuntimeError(f"the answer has {tokens} tokens instead of {TOKENS}")
    return Run(texts_s[0] - began_s, (tokens - 1) / (texts_s[-1] - texts_s[0]))


def middle(runs: Sequence[Run]) -> Run:
    return Run(median(run.first_s for run in runs), median(run.tokens_per_s for run in runs))


def table(verdicts: Iterable[Verdict]) -> Iterator[str]:
    yield f"{'':14}{'tokens/s':>24}{'first token, ms':>26}"
    yield f"{'':14}{'alone':>8}{'gateway':>9}{'share':>7}{'alone':>10}{'gateway':>9}{'more':>7}"
    for each in verdicts:
        yield (
            f"{each.runtime:14}{each.alone.tokens_per_s:8.1f}{each.gateway.tokens_per_s:9.1f}{each.share:7.1%}"
            f"{each.alone.first_s * 1e3:10.1f}{each.gateway.first_s * 1e3:9.1f}{each.s_more * 1e3:7.1f}"
            f"   {'met' if each.met else 'MISSED'}"
        )
    yield f"goals: at least {LEAST_SHARE:.0%} of the tokens/s, at most {MOST_S_MORE * 1e3:.0f} ms more"
