"""`python -m bench chat-transformers`: many streams of SmolLM2 in safetensors at once, from the runtime alone, from the
gateway, and from `transformers serve`, with its continuous batching and without.
"""

import argparse
import asyncio
import importlib.metadata
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.chat import Alone, Contender, Round, by_turns, question
from bench.chat_client import Client
from bench.gateway import MASTER_KEY, Gateway, machine
from bench.transformers_serve import serving
from llmux.litellm_settings import ENVIRONMENT

ENTRY: Mapping[str, Any] = {
    "task": "llm",
    "runtime": "transformers",
    "context": 2048,
    "max_concurrency": 8,
    "estimate": "1 GB",
}


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench chat-transformers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8], help="how many at once")
    parser.add_argument("--rounds", type=int, default=5, help="of each, by turns (default 5)")
    given = parser.parse_args(options)
    os.environ.update(ENVIRONMENT)  # before torch starts its threads, as the gateway does
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    print(f"{machine()}, {len(os.sched_getaffinity(0))} cores to use, {versions}")
    return asyncio.run(_measure(given.streams, given.rounds))


async def _measure(streams: Sequence[int], rounds: int) -> int:
    from bench.smollm2 import safetensors_folder
    from llmux.config import Model
    from providers import transformers_chat

    folder = safetensors_folder()
    ahead = True
    async with AsyncExitStack() as stack:
        runtime = await transformers_chat.load(Model.model_validate({**ENTRY, "weights": folder.name}), folder)
        stack.push_async_callback(runtime.close)
        gateway = Gateway(Path(stack.enter_context(TemporaryDirectory(prefix="bench-"))), _config(folder))
        await asyncio.to_thread(gateway.start)
        stack.push_async_callback(asyncio.to_thread, gateway.stop)
        contenders: dict[str, Contender] = {
            "runtime": Alone(runtime),
            "gateway": Client(gateway.address, MASTER_KEY, "smollm2"),
        }
        for name, batching in (("serve, batching", True), ("serve", False)):
            address, model = await asyncio.to_thread(stack.enter_context, serving(folder, batching=batching))
            contenders[name] = Client(address, "none", model)
        for contender in contenders.values():
            await contender.ask(question("warm", 0), 4)
        for count in streams:
            results = await by_turns(contenders, count, rounds)
            print("\n".join(table(count, results)), flush=True)
            ahead &= is_ahead(results)
    return 0 if ahead else 1


def _config(folder: Path) -> Mapping[str, object]:
    return {
        "model_list": [{"model_name": "smollm2", "litellm_params": {"model": "llmux/smollm2"}}],
        "llmux": {
            "budget": "2 GB",
            "database": "none",
            "models_dir": str(folder.parent),
            "models": {"smollm2": {**ENTRY, "weights": folder.name}},
        },
    }


def is_ahead(results: Mapping[str, Round]) -> bool:
    """Whether the gateway writes more tokens a second than `transformers serve` does, either way."""
    return all(
        results["gateway"].tokens_per_s > each.tokens_per_s
        for name, each in results.items()
        if name.startswith("serve")
    )


def table(count: int, results: Mapping[str, Round]) -> Iterator[str]:
    yield ""
    yield f"{count} stream{'s' if count > 1 else ''}: tokens/s in all, ms to the first text, between two (p50, p99)"
    for name, each in results.items():
        yield (
            f"{name:18}{each.tokens_per_s:8.1f}{each.first_s * 1e3:9.1f}{each.gap_p50_s * 1e3:9.1f}"
            f"{each.gap_p99_s * 1e3:9.1f}"
        )
    if not is_ahead(results):
        yield "MISSED: the gateway ahead of transformers serve"
