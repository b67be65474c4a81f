"""`python -m bench keys-durability`: what is left of keys, budgets and spend when PostgreSQL, the query engine or the
gateway is killed in the middle of requests, and when the gateway is asked to stop.
"""

import argparse
import asyncio
import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bench.gateway import COST, FLUSH_S, MODEL, Gateway, Program, machine, scripted
from database import programs
from database.postgres import Cluster

CLIENTS = 8
LONGEST_FLUSH_S = FLUSH_S + 5.0
FLUSHING_S = 2.0
"""What a flush itself may take, on a machine that is busy with all this."""

RECOVERY_S = 5.0

LOGGED = {"PostgreSQL": "PostgreSQL runs again", "engine": "the query engine runs again"}

VICTIMS: Sequence[Program] = ("PostgreSQL", "engine", "gateway")


@dataclass
class Phase:
    """One key's requests, with an incident half way.

    answered_s: when each request was answered with 200, by the clock of this process
    refused: requests that were answered otherwise
    unanswered: requests whose connection broke: they may have been charged
    budgets: each key that was acknowledged, with its budget; None where a change of that was not answered
    incident_s: when it happened
    runs_s: when what was killed ran again
    back_s: when the first key was acknowledged that was asked for after the incident
    """

    incident: str
    key: str
    answered_s: list[float] = field(default_factory=list)
    refused: int = 0
    unanswered: int = 0
    budgets: dict[str, float | None] = field(default_factory=dict)
    incident_s: float = 0.0
    runs_s: float = 0.0
    back_s: float = 0.0
    is_back: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def recovery_s(self) -> float:
        return max(0.0, self.back_s - self.runs_s)

    @property
    def held(self) -> int:
        """Answers of the one flush interval before the incident, which spend may be lost of."""
        since_s = self.incident_s - LONGEST_FLUSH_S - FLUSHING_S
        return sum(since_s <= answered_s <= self.incident_s for answered_s in self.answered_s)


@dataclass(frozen=True)
class Books:
    """What the database says of a phase: requests charged to its key, requests logged, and keys that are not as they
    were acknowledged.
    """

    charged: float
    logged: int
    wrong: int


class Run:
    """Requests through one gateway, and what became of it."""

    def __init__(self, gateway: Gateway, requests: int) -> None:
        self._gateway = gateway
        self._requests = requests
        self._runs = asyncio.Event()
        self.phases: list[Phase] = []

    async def through(self, incident: str) -> None:
        """Half of the requests, the incident in the middle of them, and the other half."""
        self._runs.set()
        async with self._gateway.http() as admin:
            made = await admin.post("/key/generate", json={"max_budget": 100.0})
            phase = Phase(incident, str(made.raise_for_status().json()["key"]))
            self.phases.append(phase)
            administering = asyncio.create_task(self._administer(admin, phase))
            numbers = iter(range(self._requests))
            async with self._gateway.http(phase.key) as http:
                await asyncio.gather(*(self._client(http, phase, numbers) for _ in range(CLIENTS)))
            if incident != "stop":
                await phase.is_back.wait()
            administering.cancel()
            with suppress(asyncio.CancelledError):
                await administering

    async def _client(self, http: httpx.AsyncClient, phase: Phase, numbers: Iterator[int]) -> None:
        for number in numbers:
            if number == self._requests // 4 and phase.incident == "gateway":
                await self._settle()
            if number == self._requests // 2:
                await self._incident(phase)
            await self._runs.wait()
            if phase.incident == "stop" and phase.incident_s:
                return
            body = {"model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": "Hello."}]}
            try:
                answer = await http.post("/v1/chat/completions", json=body)
            except httpx.TransportError:
                phase.unanswered += 1
                continue
            if answer.is_success:
                phase.answered_s.append(time.monotonic())
            else:
                phase.refused += 1

    async def _incident(self, phase: Phase) -> None:
        phase.incident_s = time.monotonic()
        match phase.incident:
            case "stop":
                await asyncio.to_thread(self._gateway.stop)
            case "gateway":
                self._runs.clear()
                self._gateway.kill("gateway")
                await asyncio.to_thread(self._gateway.start)
                self._runs.set()
            case "PostgreSQL" | "engine" as victim:
                words = LOGGED[victim]
                told = self._gateway.count(words)
                self._gateway.kill(victim)
                await asyncio.to_thread(self._gateway.wait_until_it_says, words, told + 1)
        phase.runs_s = time.monotonic()

    async def _administer(self, admin: httpx.AsyncClient, phase: Phase) -> None:
        """Make keys and change their budgets, all the time."""
        for number in range(1_000_000):
            began_s = time.monotonic()
            with suppress(httpx.HTTPError):
                made = (await admin.post("/key/generate", json={"max_budget": 1.0})).raise_for_status()
                key = str(made.json()["key"])
                phase.budgets[key] = 1.0
                if phase.runs_s and began_s > phase.incident_s and not phase.back_s:
                    phase.back_s = time.monotonic()
                    phase.is_back.set()
                budget = float(number + 2)
                phase.budgets[key] = None
                (await admin.post("/key/update", json={"key": key, "max_budget": budget})).raise_for_status()
                phase.budgets[key] = budget
            await asyncio.sleep(0.02)

    async def _settle(self) -> None:
        """Wait until all spend so far is written: what is lost afterwards is of what comes afterwards."""
        self._runs.clear()
        await asyncio.sleep(LONGEST_FLUSH_S + FLUSHING_S + 1)
        self._runs.set()


async def audited(cluster: Cluster, phases: Iterable[Phase]) -> Sequence[Books]:
    """Read the books of a database whose gateway has ended."""
    await cluster.start()
    try:
        async with await psycopg.AsyncConnection.connect(cluster.url) as connection:
            return [await _books(connection, phase) for phase in phases]
    finally:
        await cluster.stop()


async def _books(connection: psycopg.AsyncConnection[Any], phase: Phase) -> Books:
    found = await connection.execute('SELECT token, max_budget, spend FROM "LiteLLM_VerificationToken"')
    keys = {token: (budget, spend) for token, budget, spend in await found.fetchall()}
    logged = await connection.execute(
        'SELECT count(*) FROM "LiteLLM_SpendLogs" WHERE api_key = %s AND spend > 0', [_hashed(phase.key)]
    )
    (rows,) = await logged.fetchone() or (0,)
    wrong = sum(
        _hashed(key) not in keys or budget not in (None, keys[_hashed(key)][0]) for key, budget in phase.budgets.items()
    )
    return Books(charged=keys[_hashed(phase.key)][1] / COST, logged=rows, wrong=wrong)


def _hashed(key: str) -> str:
    """As LiteLLM keeps a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def verdicts(phase: Phase, books: Books) -> Iterator[str]:
    """What is wrong with it; nothing where all is well."""
    answered = len(phase.answered_s)
    lost = answered - books.charged
    if books.wrong:
        yield f"{books.wrong} acknowledged keys or budgets are not there"
    if max(books.charged, books.logged) > answered + phase.unanswered + phase.refused:
        yield "a request was counted twice"
    if lost > (0 if phase.incident == "stop" else phase.held):
        yield f"the spend of {lost:.0f} requests is lost"
    if phase.recovery_s > RECOVERY_S:
        yield f"recovered {phase.recovery_s:.1f} s after the {phase.incident}"


def table(phases: Sequence[Phase], audits: Sequence[Books]) -> Iterator[str]:
    yield (
        f"{'':16}{'answered':>9}{'refused':>9}{'broken':>9}{'charged':>9}{'logged':>9}{'held':>6}{'keys':>6}"
        f"{'wrong':>6}{'down s':>8}{'recovery s':>12}"
    )
    for phase, books in zip(phases, audits, strict=True):
        what = "SIGTERM" if phase.incident == "stop" else f"kill {phase.incident}"
        down_s = phase.runs_s - phase.incident_s
        times = "" if phase.incident == "stop" else f"{down_s:>8.2f}{phase.recovery_s:>12.2f}"
        yield (
            f"{what:16}{len(phase.answered_s):>9}{phase.refused:>9}{phase.unanswered:>9}{books.charged:>9.0f}"
            f"{books.logged:>9}{phase.held:>6}{len(phase.budgets):>6}{books.wrong:>6}{times}"
        )
        for verdict in verdicts(phase, books):
            yield f"  MISSED: {verdict}"


async def run(folder: Path, requests: int) -> tuple[Sequence[Phase], Sequence[Books]]:
    """Every incident, in the middle of so many requests each."""
    gateway = Gateway(folder, scripted("embedded"))
    try:
        await asyncio.to_thread(gateway.start)
        run = Run(gateway, requests)
        for victim in VICTIMS:
            await run.through(victim)
        await run.through("stop")
    finally:
        await asyncio.to_thread(gateway.stop)
    cluster = Cluster(gateway.state_dir / "database" / "postgres", programs.postgres())
    return run.phases, await audited(cluster, run.phases)


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench keys-durability", description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="around each incident (default 500)")
    chosen = parser.parse_args(options)
    print(machine())
    with tempfile.TemporaryDirectory(prefix="llmux-bench-") as folder:
        phases, audits = asyncio.run(run(Path(folder), chosen.requests))
    print("\n".join(table(phases, audits)))
    print(
        f"spend is written every {FLUSH_S} to {LONGEST_FLUSH_S:.0f} s; held: answered since the last time, or during it"
    )
    return any(any(verdicts(phase, books)) for phase, books in zip(phases, audits, strict=True))
