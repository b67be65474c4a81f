"""`python -m bench chat-transformers`: 1 to 8 streams of SmolLM2 in safetensors: the runtime alone, the gateway, and
`transformers serve`, with its continuous batching and without.
"""

import argparse
import asyncio
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack

import httpx

from bench.gateway import gateway
from bench.streams import Answers, Streams, measure, middle, of_runtime, of_server
from bench.transformers_serve import serving
from llmux.litellm_settings import ENVIRONMENT

TOKENS = 48

ALONE, GATEWAY, BATCHING, PLAIN = "runtime alone", "gateway", "serve, batching", "serve"

CONFIG = """\
model_list:
  - {{model_name: smollm2, litellm_params: {{model: llmux/smollm2}}}}
llmux:
  budget: 2 GB
  database: none
  models_dir: {models}
  models:
    smollm2:
      {{task: llm, runtime: transformers, weights: {folder}, context: 2048, estimate: 500 MB, max_concurrency: 8}}
"""


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench chat-transformers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each, by turns (default 5)")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8])
    chosen = parser.parse_args(options)
    os.environ.update(ENVIRONMENT)  # before torch starts its threads, as the gateway does
    print(
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, torch "
        f"{importlib.metadata.version('torch')}, transformers {importlib.metadata.version('transformers')}"
    )
    results = asyncio.run(measured(chosen.rounds, chosen.streams))
    print("\n".join(table(results)))
    return 0 if ahead(results) else 1


Results = Mapping[int, Mapping[str, Streams]]
"""By the number of streams, and by who wrote them."""


async def measured(rounds: int, counts: Sequence[int]) -> Results:
    from bench.smollm2 import safetensors_folder
    from demo.models import cache_folder
    from llmux.config import Model
    from providers import transformers_chat

    folder = safetensors_folder()
    entry = {"task": "llm", "runtime": "transformers", "weights": "smollm2", "estimate": "1 GB", "context": 2048}
    async with AsyncExitStack() as clients:
        with ExitStack() as servers:
            client = servers.enter_context(gateway(CONFIG.format(models=cache_folder(), folder=folder.name)))
            sides: dict[str, Answers] = {}
            async_client = httpx.AsyncClient(
                base_url=client.base_url, headers=client.headers, timeout=300, trust_env=False
            )
            sides[GATEWAY] = of_server(await clients.enter_async_context(async_client), "smollm2")
            for name, batching in ((BATCHING, True), (PLAIN, False)):
                address, model = servers.enter_context(serving(folder, batching=batching))
                other = httpx.AsyncClient(base_url=address, timeout=300, trust_env=False)
                sides[name] = of_server(await clients.enter_async_context(other), model)
            runtime = await transformers_chat.load(Model.model_validate({**entry, "max_concurrency": 8}), folder)
            clients.push_async_callback(runtime.close)
            sides[ALONE] = of_runtime(runtime)
            return await by_turns(sides, rounds, counts)


async def by_turns(sides: Mapping[str, Answers], rounds: int, counts: Sequence[int]) -> Results:
    runs: dict[int, dict[str, list[Streams]]] = {count: {name: [] for name in sides} for count in counts}
    number = 1000
    for answers in sides.values():  # the first of each loads, or warms up
        await measure(answers, 1, TOKENS, number := number + 1)
    for _ in range(rounds):
        for count in counts:
            for name, answers in sides.items():
                runs[count][name].append(await measure(answers, count, TOKENS, number))
                number += count
    return {count: {name: middle(each) for name, each in by_name.items()} for count, by_name in runs.items()}


def ahead(results: Results) -> bool:
    """Whether the gateway writes more than `transformers serve` does, however many streams there are."""
    return all(
        by_name[GATEWAY].tokens_per_s > max(by_name[BATCHING].tokens_per_s, by_name[PLAIN].tokens_per_s)
        for by_name in results.values()
    )


def table(results: Results) -> Iterable[str]:
    return _lines(results)


def _lines(results: Results) -> Iterator[str]:
    yield f"{'streams':8}{'':18}{'tokens/s':>10}{'first, ms':>11}{'between, ms: p50':>18}{'p99':>8}"
    for count, by_name in results.items():
        for name, run in by_name.items():
            yield (
                f"{count:<8}{name:18}{run.tokens_per_s:10.1f}{run.first_s * 1e3:11.0f}{run.between_s * 1e3:18.0f}"
                f"{run.worst_s * 1e3:8.0f}"
            )
    yield f"goal: the gateway ahead of both kinds of serve: {'met' if ahead(results) else 'MISSED'}"
