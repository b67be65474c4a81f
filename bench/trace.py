"""Requests as they came in, kept as a file: what each scheduler is given to serve.

A file has one JSON value a line. The first is an object: what the trace is, the budget, the models with their task and
bytes, and how fast they load. Every further line is one request: [model, service_s, start_s] for one that comes at a
time of its own, [model, service_s, delay_s, line, "end" or "start"] for one that comes delay_s after that earlier
request was answered ("end") or began to be served ("start").
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from vram.model import ModelSpec, Task

TRACES = Path(__file__).parent / "traces"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. after: the index of the request that it follows; None: delay_s is counted from the start."""

    model: str
    service_s: float
    delay_s: float
    after: int | None = None
    when: Literal["end", "start"] = "end"

    def line(self) -> str:
        row: list[object] = [self.model, self.service_s, self.delay_s]
        if self.after is not None:
            row += [self.after, self.when]
        return json.dumps(row, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Trace:
    """load_bytes_per_s: how fast weights become resident; unload_s: until the memory of a model is back."""

    about: str
    budget_bytes: int
    load_bytes_per_s: float
    unload_s: float
    models: tuple[ModelSpec, ...]
    requests: tuple[Asked, ...]

    def text(self) -> str:
        """As it is kept in a file."""
        header = {
            "about": self.about,
            "budget_bytes": self.budget_bytes,
            "load_bytes_per_s": self.load_bytes_per_s,
            "unload_s": self.unload_s,
            "models": {model.id: [model.task, model.estimate_bytes] for model in self.models},
        }
        return "\n".join([json.dumps(header), *(asked.line() for asked in self.requests), ""])


def read_trace(name: str) -> Trace:
    """A trace of the checkout, by name."""
    return parse((TRACES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())


def parse(lines: Iterable[str]) -> Trace:
    first, *rows = (json.loads(line) for line in lines)
    return Trace(
        about=first["about"],
        budget_bytes=first["budget_bytes"],
        load_bytes_per_s=first["load_bytes_per_s"],
        unload_s=first["unload_s"],
        models=specs(first["models"]),
        requests=tuple(Asked(*row) for row in rows),
    )


def specs(models: Mapping[str, tuple[str, int]]) -> tuple[ModelSpec, ...]:
    return tuple(ModelSpec(name, cast(Task, task), size) for name, (task, size) in models.items())
