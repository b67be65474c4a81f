"""`python -m bench keys`: what keys in a database cost beside keys in a file. Two gateways, asked in turns."""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from bench.gateway import MODEL, Gateway, Program, cpu_s, machine, resident_bytes, scripted
from llmux.keys import KeyFile

Kind = Literal["embedded", "none"]
KINDS: Sequence[Kind] = ("embedded", "none")

START_S = 8.0
"""How much longer a start with the database may take, but for the first one."""

LATENCY_S = 0.010
"""How much longer the median request may take."""

CLIENTS = 8
ROUNDS = 3
BODY = {"model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": "Hello."}]}

REQUESTS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "GET /v1/models": ("GET", "/v1/models", {}),
    "chat, scripted": ("POST", "/v1/chat/completions", {"json": BODY}),
}


@dataclass
class Side:
    """What was measured of one gateway.

    starts_s: from the command to the first answer; the first one makes cluster and client
    latencies_s: of each kind of request, one at a time
    rates: chat requests a second, by several clients at once, in each round
    cpu_s: of each program, for one such request
    resident: bytes of each program, after them
    """

    gateway: Gateway
    key: str = ""
    starts_s: list[float] = field(default_factory=list)
    latencies_s: dict[str, list[float]] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    cpu_s: dict[Program, float] = field(default_factory=dict)
    resident: dict[Program, int] = field(default_factory=dict)

    @property
    def start_s(self) -> float:
        """The usual one."""
        return statistics.median(self.starts_s[1:])


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def start(sides: Mapping[Kind, Side], starts: int) -> None:
    """Start each for the first time, and again so often, in turns; leave them running, each with a key."""
    for number in range(starts + 1):
        for side in sides.values():
            side.starts_s.append(await asyncio.to_thread(side.gateway.start))
            if number < starts:
                await asyncio.to_thread(side.gateway.stop)
    sides["none"].key = KeyFile(sides["none"].gateway.state_dir).create("bench")
    async with sides["embedded"].gateway.http() as admin:
        made = await admin.post("/key/generate", json={"max_budget": 1000.0})
        sides["embedded"].key = str(made.raise_for_status().json()["key"])


async def ask(http: httpx.AsyncClient, name: str) -> float:
    method, path, more = REQUESTS[name]
    began_s = time.perf_counter()
    (await http.request(method, path, **more)).raise_for_status()
    return time.perf_counter() - began_s


async def in_turns(sides: Sequence[Side], requests: int) -> None:
    """The latencies, with both gateways idle but for this."""
    clients = [side.gateway.http(side.key) for side in sides]
    for name in REQUESTS:
        for number in range(-20, requests):  # the first ones warm it up
            for side, http in list(zip(sides, clients, strict=True))[:: 1 if number % 2 else -1]:
                took_s = await ask(http, name)
                if number >= 0:
                    side.latencies_s.setdefault(name, []).append(took_s)
    for http in clients:
        await http.aclose()


async def at_once(side: Side, requests: int) -> None:
    """A round of several clients at once, for the rate and what it costs each program."""
    before_s = {name: cpu_s(pids) for name, pids in side.gateway.programs().items()}
    numbers = iter(range(requests))
    began_s = time.perf_counter()

    async def client(http: httpx.AsyncClient) -> None:
        for _ in numbers:
            await ask(http, "chat, scripted")

    async with side.gateway.http(side.key) as http:
        await asyncio.gather(*(client(http) for _ in range(CLIENTS)))
    side.rates.append(requests / (time.perf_counter() - began_s))
    for name, pids in side.gateway.programs().items():
        side.cpu_s[name] = side.cpu_s.get(name, 0.0) + (cpu_s(pids) - before_s[name]) / requests / ROUNDS
        side.resident[name] = resident_bytes(pids)


async def measured(folder: Path, requests: int, starts: int) -> Mapping[Kind, Side]:
    sides = {kind: Side(Gateway(folder / kind, scripted(kind))) for kind in KINDS}
    try:
        await start(sides, starts)
        await in_turns(list(sides.values()), requests)
        for _ in range(ROUNDS):
            for side in sides.values():
                await at_once(side, requests)
    finally:
        for side in sides.values():
            with suppress(ProcessLookupError):
                await asyncio.to_thread(side.gateway.stop)
    return sides


def table(embedded: Side, none: Side) -> Iterator[str]:
    yield f"{'':34}{'embedded':>10}{'none':>10}"
    yield f"{'first start, s':34}{embedded.starts_s[0]:>10.1f}{none.starts_s[0]:>10.1f}"
    yield f"{'start, s':34}{embedded.start_s:>10.1f}{none.start_s:>10.1f}"
    for name in REQUESTS:
        for share in (0.5, 0.95):
            what = f"{name}, p{share * 100:.0f}, ms"
            values = [1000 * quantile(side.latencies_s[name], share) for side in (embedded, none)]
            yield f"{what:34}{values[0]:>10.1f}{values[1]:>10.1f}"
    yield f"{f'chat requests/s, {CLIENTS} clients':34}{max(embedded.rates):>10.0f}{max(none.rates):>10.0f}"
    for program in embedded.cpu_s:
        yield _row(f"{program}, CPU ms a request", embedded.cpu_s, none.cpu_s, program, 1000)
    for program in embedded.resident:
        yield _row(f"{program}, MB", embedded.resident, none.resident, program, 1e-6)


def _row(
    what: str, ours: Mapping[Program, float], theirs: Mapping[Program, float], program: Program, unit: float
) -> str:
    other = f"{theirs[program] * unit:.1f}" if program in theirs else "-"
    return f"{what:34}{ours[program] * unit:>10.1f}{other:>10}"


def verdicts(embedded: Side, none: Side) -> Iterator[tuple[str, bool]]:
    """Each goal, and whether it is met."""
    longer_s = embedded.start_s - none.start_s
    yield f"a start takes {longer_s:.1f} s longer (at most {START_S:.0f})", longer_s <= START_S
    for name in REQUESTS:
        slower_s = quantile(embedded.latencies_s[name], 0.5) - quantile(none.latencies_s[name], 0.5)
        yield (
            f"{name} takes {slower_s * 1000:.1f} ms longer at p50 (at most {LATENCY_S * 1000:.0f})",
            slower_s <= LATENCY_S,
        )


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench keys", description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="of each kind, to each gateway (default 300)")
    parser.add_argument("--starts", type=int, default=3, help="after the first one (default 3)")
    chosen = parser.parse_args(options)
    print(machine())
    with tempfile.TemporaryDirectory(prefix="llmux-bench-") as folder:
        sides = asyncio.run(measured(Path(folder), chosen.requests, chosen.starts))
    print("\n".join(table(sides["embedded"], sides["none"])))
    found = list(verdicts(sides["embedded"], sides["none"]))
    for goal, is_met in found:
        print(f"{'met' if is_met else 'MISSED'}: {goal}")
    return 0 if all(is_met for _, is_met in found) else 1
