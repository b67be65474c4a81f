"""`python -m bench vram-sim`: the scheduler under random events, then beside others on recorded requests. No GPU."""

import argparse
import platform
import time
from collections.abc import Callable, Iterable, Mapping

from bench.beliefs import Beliefs
from bench.chaos import chaos
from bench.clairvoyant import Clairvoyant
from bench.day import day
from bench.peers import Fifo, LlamaSwap, Ollama
from bench.replay import Decides, Outcome, Replay
from bench.trace import Trace, read_trace
from vram.model import Task
from vram.scheduler import Scheduler

MAX_WAIT_S: Mapping[Task, float] = {"asr": 1, "tts": 2, "llm": 20}
"""As litellm_config.yaml ships them."""

TASKS: tuple[Task, ...] = ("asr", "tts", "llm")


def llmux(trace: Trace) -> Decides:
    return Scheduler(
        trace.models,
        Beliefs(),
        trace.budget_bytes,
        max_wait_s=MAX_WAIT_S,
        queue_per_model=64,
        queue_total=256,
        load_s=600,
    )


SCHEDULERS: Mapping[str, Callable[[Trace], Decides]] = {
    "llmux": llmux,
    "FIFO, LRU": lambda trace: Fifo(trace.models, trace.budget_bytes),
    "llama-swap": lambda trace: LlamaSwap(trace.models, trace.budget_bytes),
    "Ollama, 5 min": lambda trace: Ollama(trace.models, trace.budget_bytes, 300),
    "Ollama, forever": lambda trace: Ollama(trace.models, trace.budget_bytes, None),
}


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench vram-sim", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="random events (default 1,000,000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random events (default 1)")
    parser.add_argument("--day", type=int, help="seed of another day than the recorded one, made by bench/day.py")
    chosen = parser.parse_args(options)
    print(f"{platform.machine()}, Python {platform.python_version()}")
    started_s, started_processor_s = time.monotonic(), time.process_time()
    tally = chaos(chosen.events, chosen.seed)
    took_s, processor_s = time.monotonic() - started_s, time.process_time() - started_processor_s
    print("\n".join(tally.lines(chosen.seed, took_s, processor_s)))
    last = read_trace("day") if chosen.day is None else day(chosen.day)
    for trace in (read_trace("abaacabc"), read_trace("abaacabc-slow"), last):
        outcomes = {name: Replay(trace, of(trace)).run() for name, of in SCHEDULERS.items()}
        print("\n".join(["", *compared(trace, outcomes)]))
    return 1 if tally.violations else 0


def compared(trace: Trace, outcomes: Mapping[str, Outcome]) -> Iterable[str]:
    tasks = [task for task in TASKS if task in outcomes["llmux"].waits_s]
    yield f"{trace.about}: {len(trace.requests)} requests"
    yield f"{'':16}{'loads':>7}{'lone':>7}{'evicted':>9}" + "".join(f"{task + ' p50/p95/max s':>24}" for task in tasks)
    for name, outcome in outcomes.items():
        row = f"{name:16}{outcome.loads:>7}{outcome.lone_loads:>7}{outcome.evictions:>9}"
        for task in tasks:
            row += f"{' / '.join(f'{outcome.quantile_s(task, share):.1f}' for share in (0.5, 0.95, 1)):>24}"
        yield row
    yield from goals(outcomes, tasks)
    yield from bounds(trace, outcomes)


def goals(outcomes: Mapping[str, Outcome], tasks: Iterable[Task]) -> Iterable[str]:
    ours = outcomes["llmux"]
    share = ours.loads / outcomes["FIFO, LRU"].loads
    yield f"llmux loads {share:.0%} of FIFO's"
    for task in tasks:
        best, name = min(
            (outcome.quantile_s(task, 0.95), name) for name, outcome in outcomes.items() if name != "llmux"
        )
        wait_s = ours.quantile_s(task, 0.95)
        verdict = "no worse than any" if wait_s <= best else f"worse than {name}'s {best:.2f} s"
        yield f"{task} p95 {wait_s:.2f} s: {verdict}"


def bounds(trace: Trace, outcomes: Mapping[str, Outcome]) -> Iterable[str]:
    """What nobody could do better, for the requests as they came in under llmux: they follow one another."""
    sizes = {model.id: model.estimate_bytes for model in trace.models}
    for times in (1, 3, 6):
        limits_s = {model.id: times * MAX_WAIT_S[model.task] for model in trace.models}
        loads = Clairvoyant(sizes, trace.budget_bytes, limits_s).fewest_loads(outcomes["llmux"].arrivals)
        waits = ", ".join(f"{task} {times * limit_s:g} s" for task, limit_s in MAX_WAIT_S.items())
        share = loads / outcomes["FIFO, LRU"].loads
        yield f"with the future known, and no wait longer than {waits}: {loads} loads, {share:.0%} of FIFO's"
