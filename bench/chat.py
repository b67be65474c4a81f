"""`python -m bench chat`: many streams of SmolLM2 at once, from its runtime alone, from the gateway, and from others.

Everybody gets the same file, threads, context, batch and slots, and questions that nobody was asked before. They take
turns, so that what else the machine does falls on all of them alike, and as it changes from one second to the next by
more than a gateway costs, each answer is compared with those of the same turn. In a round everybody gives as many
answers at one stream as at eight.
"""

import argparse
import asyncio
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from bench.chat_client import Client, Heard, Listening
from bench.chat_servers import Load, llama_cpp_python, xllamacpp
from bench.gateway import MASTER_KEY, Gateway, machine
from llmux.huge_pages import use_huge_pages
from llmux.litellm_settings import ENVIRONMENT

TOKENS = 64
SLOTS = 8
CONTEXT = 3072
FIRST_TURN = 2000
"""Tokens of a first turn, about."""

SHARE_OF_RUNTIME = {1: 0.95, 8: 0.90}
"""Of the tokens per second that the runtime makes alone, by number of streams; in between it is not asked for."""
SHARE_OF_XLLAMACPP = 0.95
SECOND_TURN = 0.10
"""Of the time to the first token of a first turn."""

Messages = list[Mapping[str, Any]]


class Contender(Protocol):
    async def ask(self, messages: Messages, max_tokens: int) -> Heard: ...


@dataclass(frozen=True, slots=True)
class Round:
    """What some streams at once came to: tokens per second of all together, and seconds of each."""

    tokens_per_s: float
    first_s: float
    gap_p50_s: float
    gap_p99_s: float


@dataclass(frozen=True, slots=True)
class Turns:
    """Seconds to the first text of a conversation's first and second turn, and what was not computed again."""

    first_s: float
    second_s: float
    cached_tokens: int


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench chat", description=__doc__)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 2, 4, 8], help="how many at once")
    parser.add_argument("--turns", action=argparse.BooleanOptionalAction, default=True, help="a second turn as well")
    parser.add_argument("--rounds", type=int, default=5, help=f"of {SLOTS} answers, by turns (default 5)")
    parser.add_argument("--without", nargs="*", default=[], choices=list(OTHERS), help="servers to leave out")
    given = parser.parse_args(options)
    os.environ.update(ENVIRONMENT)  # before any threads start, as the gateway does
    print(f"{machine()}, {len(os.sched_getaffinity(0))} cores to use, {platform.processor() or 'processor unnamed'}")
    return asyncio.run(_measure(given.streams, given.rounds, given.turns, given.without))


async def _measure(streams: Sequence[int], rounds: int, turns: bool, without: Sequence[str]) -> int:
    from bench.smollm2 import GGUF
    from demo.models import cache_folder
    from providers.llama_engine import BATCH

    folder = cache_folder() / "smollm2-135m"
    load = Load(str(folder / GGUF), CONTEXT, SLOTS, BATCH, len(os.sched_getaffinity(0)))
    failed = False
    async with AsyncExitStack() as stack:
        contenders: dict[str, Contender] = {"runtime": await stack.enter_async_context(_alone(folder, GGUF))}
        served = await stack.enter_async_context(_gateway(GGUF, folder))
        contenders["gateway"] = served
        for name, serve in OTHERS.items():
            if name not in without:
                contenders[name] = Client(stack.enter_context(serve(load)), "none", load.file)
        for contender in contenders.values():
            await contender.ask(question("warm", 0), 4)
        for count in streams:
            before_s, before = served.event_loop_s(), served.tokens
            results = await turns_of(contenders, count, max(1, rounds * SLOTS // count))
            cost_s = (served.event_loop_s() - before_s) / (served.tokens - before)
            lines, met = table(count, results, cost_s)
            print("\n".join(lines), flush=True)
            failed |= not met
        if turns:
            failed |= not await _second_turns(contenders, rounds)
    return int(failed)


async def by_turns(contenders: Mapping[str, Contender], count: int, rounds: int) -> Mapping[str, Round]:
    return {name: middle(each) for name, each in (await turns_of(contenders, count, rounds)).items()}


async def turns_of(contenders: Mapping[str, Contender], count: int, turns: int) -> Mapping[str, Sequence[Round]]:
    """So many of each, one after the other."""
    results: dict[str, list[Round]] = {name: [] for name in contenders}
    for number in range(turns):
        for name in order_of(list(contenders), number):
            heard = await asyncio.gather(
                *(contenders[name].ask(question(f"{count}.{number}", stream), TOKENS) for stream in range(count))
            )
            results[name].append(together(heard))
    return results


def order_of(names: Sequence[str], turn: int) -> Sequence[str]:
    """Who comes after whom in a turn: one after the other is first, and every other turn goes backwards. What one
    leaves behind, in caches above all, falls on all of them alike once there were two turns for each of them.
    """
    first = turn // 2 % len(names)
    order = [*names[first:], *names[:first]]
    return order if turn % 2 == 0 else order[::-1]


async def _second_turns(contenders: Mapping[str, Contender], rounds: int) -> bool:
    """Printed as they are measured. Whether the goal is met."""
    print(f"\na second turn after {FIRST_TURN} tokens: seconds to its first text, and to that of the first")
    met = True
    for name, contender in contenders.items():
        turns = await _turns(contender, rounds)
        missed = name == "gateway" and turns.second_s > SECOND_TURN * turns.first_s
        met &= not missed
        print(
            f"{name:18}{turns.second_s:8.3f}{turns.first_s:8.3f}{turns.second_s / turns.first_s:8.1%}"
            f"   {turns.cached_tokens} tokens reused{'   MISSED' if missed else ''}",
            flush=True,
        )
    return met


async def _turns(contender: Contender, rounds: int) -> Turns:
    results = []
    for number in range(rounds):
        notes = " ".join(f"{number}{index} is a number." for index in range(FIRST_TURN // 8))
        first: Messages = [{"role": "user", "content": f"Notes: {notes} What are they about?"}]
        one = await contender.ask(first, 16)
        second: Messages = [{"role": "assistant", "content": one.text}, {"role": "user", "content": "Why?"}]
        other = await contender.ask([*first, *second], 16)
        results.append(Turns(one.first_s, other.first_s, other.cached_tokens))
    return Turns(
        median(turns.first_s for turns in results),
        median(turns.second_s for turns in results),
        results[-1].cached_tokens,
    )


def question(round_: str, stream: int) -> Messages:
    """One that begins like no other, so that nobody has computed it."""
    return [{"role": "user", "content": f"Story {round_}, {stream}: tell me a long one of a dragon and a lighthouse."}]


def together(heard: Sequence[Heard]) -> Round:
    """From the first question to the last end. What a client does before and after is none of its server's."""
    gaps = [gap for each in heard for gap in each.gaps_s]
    percentiles = quantiles(gaps, n=100) if len(gaps) > 1 else [*gaps, 0.0] * 99
    whole_s = max(each.ended_s for each in heard) - min(each.asked_s for each in heard)
    return Round(
        sum(each.tokens for each in heard) / whole_s,
        median(each.first_s for each in heard),
        percentiles[49],
        percentiles[98],
    )


def middle(rounds: Sequence[Round]) -> Round:
    return Round(
        median(each.tokens_per_s for each in rounds),
        median(each.first_s for each in rounds),
        median(each.gap_p50_s for each in rounds),
        median(each.gap_p99_s for each in rounds),
    )


def share(mine: Sequence[Round], others: Sequence[Round]) -> float:
    """Of the tokens per second that others make: the median of all turns."""
    return median(one.tokens_per_s / other.tokens_per_s for one, other in zip(mine, others, strict=True))


def table(count: int, results: Mapping[str, Sequence[Round]], cost_s: float) -> tuple[list[str], bool]:
    """For people, and whether the goals are met. results: what the contenders came to, turn by turn"""
    lines = [
        "",
        f"{count} stream{'s' if count > 1 else ''}, {len(results['gateway'])} turns: tokens/s in all, ms to the first "
        "text, between two (p50, p99), the gateway's share of its tokens/s",
    ]
    for name, turns in results.items():
        each = middle(turns)
        lines.append(
            f"{name:18}{each.tokens_per_s:8.1f}{each.first_s * 1e3:9.1f}{each.gap_p50_s * 1e3:9.1f}"
            f"{each.gap_p99_s * 1e3:9.1f}{share(results['gateway'], turns):9.1%}"
        )
    lines.append(f"the gateway's event loop: {cost_s * 1e3:.2f} ms of a processor a token")
    missed = list(_missed(count, results))
    return [*lines, *(f"MISSED: {what}" for what in missed)], not missed


def _missed(count: int, results: Mapping[str, Sequence[Round]]) -> Iterator[str]:
    least: dict[str, float] = {"xllamacpp": SHARE_OF_XLLAMACPP, "llama-cpp-python": 1.0}
    if count in SHARE_OF_RUNTIME:
        least["runtime"] = SHARE_OF_RUNTIME[count]
    for name, goal in least.items():
        if name in results and (made := share(results["gateway"], results[name])) < goal:
            yield f"{made:.1%} of {name}, at least {goal:.0%} is the goal"


class Alone:
    """The runtime, with nothing between it and whoever asks."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    async def ask(self, messages: Messages, max_tokens: int) -> Heard:
        from providers import dialect
        from providers.runtime import Sampling

        listening = Listening(time.perf_counter())
        prompt = dialect.render(
            messages,
            template=self._runtime.chat_template,
            special_tokens=self._runtime.special_tokens,
            control_tokens=self._runtime.control_tokens,
        )
        tokens = cached_tokens = 0
        async for piece in self._runtime.generate(prompt, Sampling(max_tokens=max_tokens, temperature=0)):
            tokens, cached_tokens = tokens + piece.tokens, piece.cached_tokens
            if piece.text:
                listening.text(piece.text, time.perf_counter())
        return listening.end(tokens, cached_tokens, time.perf_counter())


@asynccontextmanager
async def _alone(folder: Path, file: str) -> AsyncIterator[Alone]:
    from llmux.config import Model
    from providers import llamacpp

    use_huge_pages()  # as the gateway does
    runtime = await llamacpp.load(Model.model_validate(_entry(file)), folder)
    try:
        yield Alone(runtime)
    finally:
        await runtime.close()


def _entry(file: str) -> Mapping[str, Any]:
    return {
        "task": "llm",
        "runtime": "llama.cpp",
        "weights": "smollm2-135m",
        "file": file,
        "context": CONTEXT,
        "max_concurrency": SLOTS,
        "estimate": "1 GB",
    }


class _Served:
    """The gateway, as a client sees it. tokens: that it has sent so far"""

    def __init__(self, client: Client, pid: int) -> None:
        self._client = client
        self._pid = pid
        self.tokens = 0

    async def ask(self, messages: Messages, max_tokens: int) -> Heard:
        heard = await self._client.ask(messages, max_tokens)
        self.tokens += heard.tokens
        return heard

    def event_loop_s(self) -> float:
        """The processor's time of the thread in which all of the gateway but the models runs."""
        ticks = Path(f"/proc/{self._pid}/task/{self._pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def _gateway(file: str, folder: Path) -> AsyncIterator[_Served]:
    config = {
        "model_list": [{"model_name": "smollm2", "litellm_params": {"model": "llmux/smollm2"}}],
        "llmux": {
            "budget": "2 GB",
            "database": "none",
            "models_dir": str(folder.parent),
            "models": {"smollm2": dict(_entry(file))},
        },
    }
    with TemporaryDirectory(prefix="bench-") as state:
        started = Gateway(Path(state), config)
        await asyncio.to_thread(started.start)
        try:
            yield _Served(Client(started.address, MASTER_KEY, "smollm2"), started.programs()["gateway"][0])
        finally:
            await asyncio.to_thread(started.stop)


OTHERS: Mapping[str, Callable[[Load], Any]] = {"xllamacpp": xllamacpp, "llama-cpp-python": llama_cpp_python}
