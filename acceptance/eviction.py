"""Who should leave for whom: the rows of the table in docs/vram.md, and the models that can show them.

The rule is written down here once more, of the sizes alone, and not taken from vram/: what the arbiter does is held
against what it should do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from llmux.config import Task

LOWEST_FIRST: Sequence[Task] = ("llm", "tts", "asr")

_MARGIN = 0.02
"""Part of the budget by which sizes must be clear of it: measured ones differ a little from load to load."""


class Sized(NamedTuple):
    """A physical model, as GET /vram tells it."""

    id: str
    task: Task
    gb: float


@dataclass(frozen=True, slots=True)
class Row:
    """loaded: which are in VRAM, used in this order; asked: which is asked for; leave: who of the loaded leaves

    leave: places in `loaded`
    """

    title: str
    loaded: Sequence[Task]
    asked: Task
    leave: frozenset[int]


class Scene(NamedTuple):
    """A row with the models that show it."""

    loaded: Sequence[Sized]
    asked: Sized
    leave: frozenset[int]


ROWS = (
    Row("evicts one chat model for another, and no more", ("asr", "tts", "llm"), "llm", frozenset({2})),
    Row("evicts all three for a chat model that needs them all", ("asr", "tts", "llm"), "llm", frozenset({0, 1, 2})),
    Row("evicts nobody for a chat model that fits beside", ("asr", "tts"), "llm", frozenset()),
    Row("evicts a chat model for speech recognition", ("llm",), "asr", frozenset({0})),
    Row("evicts one chat model for another beside speech recognition", ("asr", "llm"), "llm", frozenset({1})),
    Row("keeps two chat models where they fit", ("llm",), "llm", frozenset()),
    Row("evicts speech, and no speech recognition, for chat", ("asr", "tts"), "llm", frozenset({1})),
)


def leaving(loaded: Sequence[Sized], asked: Sized, budget_gb: float) -> frozenset[int] | None:
    """Who leaves, as places in `loaded`, which is in order of use; None where not even all of them would do.

    The lowest class first, the least recently used first within a class, and no further than the newcomer needs.
    """
    missing_gb = sum(model.gb for model in loaded) + asked.gb - budget_gb
    order = sorted(range(len(loaded)), key=lambda place: (LOWEST_FIRST.index(loaded[place].task), place))
    left: set[int] = set()
    for place in order:
        if missing_gb <= 0:
            break
        left.add(place)
        missing_gb -= loaded[place].gb
    return frozenset(left) if missing_gb <= 0 else None


def scene(row: Row, models: Sequence[Sized], budget_gb: float) -> Scene | None:
    """The first models by which the row can be shown, clear of the budget; None where there are none."""
    margin_gb = budget_gb * _MARGIN
    for *loaded, asked in _casts(row, models):
        if sum(model.gb for model in loaded) > budget_gb - margin_gb:
            continue
        if all(leaving(loaded, asked, budget_gb + off_gb) == row.leave for off_gb in (-margin_gb, margin_gb)):
            return Scene(loaded, asked, row.leave)
    return None


def _casts(row: Row, models: Sequence[Sized]) -> Iterator[tuple[Sized, ...]]:
    roles = [[model for model in models if model.task == task] for task in (*row.loaded, row.asked)]
    return (cast for cast in product(*roles) if len(set(cast)) == len(cast))
