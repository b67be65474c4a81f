"""`python -m bench chat-one`: one stream of SmolLM2 through the gateway, beside the same runtime alone."""

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx

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
  budget: 2 GB
  database: none
  models_dir: {models}
  models:
    llama.cpp: {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: {gguf}, context: 2048, estimate: 300 MB}}
    transformers: {{task: llm, runtime: transformers, weights: {folder}, context: 2048, estimate: 500 MB}}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One answer: seconds to its first text, and tokens per second from there on."""

    first_s: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Medians of many runs, alone and through the gateway."""

    runtime: str
    alone: Run
    gateway: Run

    @property
    def share(self) -> float:
        return self.gateway.tokens_per_s / self.alone.tokens_per_s

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
            watch, tokens = Watch(), 0
            async for piece in runtime.generate(prompt, Sampling(max_tokens=TOKENS, temperature=0)):
                tokens += piece.tokens
                if piece.text:
                    watch.saw_text()
            return watch.run(tokens)

        runs: list[tuple[Run, Run]] = []
        for number in range(rounds + 1):
            pair = (await by_itself(), await asyncio.to_thread(through_gateway, client, name))
            if number:  # the first of each loads, or warms up
                runs.append(pair)
    finally:
        await runtime.close()
    return Verdict(name, middle([pair[0] for pair in runs]), middle([pair[1] for pair in runs]))


def through_gateway(client: httpx.Client, name: str) -> Run:
    """One streamed answer."""
    watch, tokens = Watch(), 0
    body = {
        "model": name,
        "messages": MESSAGES,
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for chunk in chunks(answer.iter_lines()):
            if any(choice["delta"].get("content") for choice in chunk["choices"]):
                watch.saw_text()
            if usage := chunk.get("usage"):
                tokens = usage["completion_tokens"]
    return watch.run(tokens)


def chunks(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of an event stream."""
    for line in lines:
        data = line.removeprefix("data: ")
        if data != line and data != "[DONE]":
            yield json.loads(data)


class Watch:
    """Runs from when it is made."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._began_s = now()
        self._first_s = self._last_s = 0.0

    def saw_text(self) -> None:
        self._last_s = self._now()
        self._first_s = self._first_s or self._last_s

    def run(self, tokens: int) -> Run:
        """Raises RuntimeError for an answer that ended early: it would be compared with longer ones."""
        if tokens != TOKENS:
            raise RuntimeError(f"the answer has {tokens} tokens instead of {TOKENS}")
        return Run(self._first_s - self._began_s, (tokens - 1) / (self._last_s - self._first_s))


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
