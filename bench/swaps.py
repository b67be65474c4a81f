"""Models that come and go: who is asked for when, what each stay on the device was like, and what follows from all."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

PREDICTION_GOAL = 0.05
"""From a model's second load on, the most by which what was reserved for it may differ from what it took."""

_TOGETHER = 0.2
"""The share of steps that ask for two models at the same moment."""


def steps(models: Sequence[str], seed: int) -> Iterator[tuple[str, ...]]:
    """Without end, whom to ask for: one model, or two at the same moment; nobody who was in the step before."""
    random_ = random.Random(seed)
    before: tuple[str, ...] = ()
    while True:
        others = [model for model in models if model not in before] or list(models)
        together = len(others) > 1 and random_.random() < _TOGETHER
        before = tuple(random_.sample(others, 2 if together else 1))
        yield before


@dataclass(frozen=True, slots=True)
class Stay:
    """One model's time on the device. Bytes and seconds.

    first: nothing had been measured of it before
    predicted_bytes: what was reserved for it when its load began
    loaded_bytes: what its load took; None where other models moved meanwhile, or the device does not tell
    taken_bytes: the most that it was seen to hold, loading and serving
    left_card_bytes, left_process_bytes: of that, what did not come back when it was unloaded, by what the card and this
        process hold; None where that cannot be told
    """

    model: str
    first: bool
    predicted_bytes: int
    loaded_bytes: int | None
    taken_bytes: int | None
    load_s: float
    left_card_bytes: int | None = None
    left_process_bytes: int | None = None

    @property
    def error(self) -> float | None:
        """By which share of what it took the prediction was too high, or, below zero, too low."""
        return None if self.taken_bytes is None else (self.predicted_bytes - self.taken_bytes) / self.taken_bytes


@dataclass(slots=True)
class Progress:
    """What was done so far, over all runs: kept in a file, so that the next run goes on.

    of: what a run must have in common with those before it (seed, card, versions)
    steps: how many are done; evictions: by reason; refusals, failures: what was said, in order
    """

    of: Mapping[str, Any]
    steps: int = 0
    runs: int = 0
    seconds: float = 0.0
    stays: list[Stay] = field(default_factory=list)
    evictions: dict[str, int] = field(default_factory=dict)
    out_of_memory: int = 0
    refusals: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        begun = path.with_name(f"{path.name}.begun")
        begun.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        begun.replace(path)


def resume(path: Path, of: Mapping[str, Any]) -> Progress:
    """Where earlier runs of the same left off; from the beginning where there were none."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return Progress(of)
    if kept["of"] != of:
        return Progress(of)
    return Progress(**{**kept, "stays": [Stay(**stay) for stay in kept["stays"]]})


@dataclass(frozen=True, slots=True)
class Row:
    """What all stays of one model come to.

    first_error: of the prediction from its files; worst_error: the largest later one, whatever its sign
    load_s: the median
    left_card_bytes, left_process_bytes: the means
    """

    model: str
    loads: int
    taken_bytes: int | None
    first_error: float | None
    worst_error: float | None
    load_s: float
    left_card_bytes: int | None
    left_process_bytes: int | None


def rows(stays: Iterable[Stay]) -> list[Row]:
    """In the order in which the models came first."""
    by_model: dict[str, list[Stay]] = {}
    for stay in stays:
        by_model.setdefault(stay.model, []).append(stay)
    return [_row(model, of_model) for model, of_model in by_model.items()]


def _row(model: str, stays: Sequence[Stay]) -> Row:
    later = [stay.error for stay in stays if not stay.first and stay.error is not None]
    return Row(
        model=model,
        loads=len(stays),
        taken_bytes=max((stay.taken_bytes for stay in stays if stay.taken_bytes is not None), default=None),
        first_error=next((stay.error for stay in stays if stay.first and stay.error is not None), None),
        worst_error=max(later, key=abs, default=None),
        load_s=median(stay.load_s for stay in stays),
        left_card_bytes=_mean(stay.left_card_bytes for stay in stays),
        left_process_bytes=_mean(stay.left_process_bytes for stay in stays),
    )


def _mean(sizes: Iterable[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return round(mean(known)) if known else None


def missed(progress: Progress, swaps: int) -> list[str]:
    """Which goals were not reached, in words; a run that is not over yet has not reached its number of swaps."""
    said = []
    if len(progress.stays) < swaps:
        said.append(f"{len(progress.stays)} of {swaps} swaps: run it again to go on")
    if progress.out_of_memory:
        said.append(f"{progress.out_of_memory} times out of memory, the goal is 0")
    said += [f"refused: {refusal}" for refusal in progress.refusals]
    said += [f"failed: {failure}" for failure in progress.failures]
    for row in rows(progress.stays):
        if row.worst_error is not None and abs(row.worst_error) > PREDICTION_GOAL:
            said.append(f"{row.model}: predicted {row.worst_error:+.1%} from the second load on, the goal is 5 %")
        elif row.worst_error is None and len(progress.stays) >= swaps:
            said.append(f"{row.model}: never measured a second time")
    return said
