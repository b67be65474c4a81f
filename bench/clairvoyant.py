"""The fewest loads with which anybody could serve a trace: one who knows the future, and loads and answers in no time.

A lower bound for every scheduler that keeps nobody waiting for longer than a limit. Who knows the future loads nothing
before somebody has waited for its limit, for until then a load can only be saved; so only these moments are looked at.
There, any of the models that are waited for may be loaded along, one after the other, each serving all who wait for
it, and any that had to leave may be loaded again. The cheapest way to each state is kept, and a state is dropped where
another that can become it costs no more.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import TypeVar

T = TypeVar("T")

Present = frozenset[str]
Due = tuple[tuple[float, str], ...]
"""Until when each model that is waited for must be there, the first one first."""

States = dict[tuple[Present, Due], int]
"""The fewest loads with which each state was reached."""


class Clairvoyant:
    """sizes: of each model; limits_s: the longest that a request for it may wait"""

    def __init__(self, sizes: Mapping[str, int], budget_bytes: int, limits_s: Mapping[str, float]) -> None:
        self._sizes = sizes
        self._budget_bytes = budget_bytes
        self._limits_s = limits_s

    def fewest_loads(self, arrivals: Sequence[tuple[float, str]]) -> int:
        """arrivals: when each request comes in, and for which model, in order"""
        states: States = {(frozenset(), ()): 0}
        for now_s, model in arrivals:
            states = self._until(now_s, states)
            states = _cheapest(self._joined(state, loads, now_s, model) for state, loads in states.items())
            states = _undominated(states)
        return min(self._until(math.inf, states).values())

    def _until(self, now_s: float, states: States) -> States:
        """Serve whoever may not wait until then."""
        settled: States = {}
        while states:
            moved: list[tuple[tuple[Present, Due], int]] = []
            for (present, due), loads in states.items():
                if due and due[0][0] < now_s:
                    moved += self._served(present, due, loads)
                else:
                    settled[present, due] = min(loads, settled.get((present, due), loads))
            states = _cheapest(moved)
        return settled

    def _joined(
        self, state: tuple[Present, Due], loads: int, now_s: float, model: str
    ) -> tuple[tuple[Present, Due], int]:
        present, due = state
        if model not in present and all(model != waited_for for _, waited_for in due):
            due = tuple(sorted((*due, (now_s + self._limits_s[model], model))))
        return (present, due), loads

    def _served(self, present: Present, due: Due, loads: int) -> Iterator[tuple[tuple[Present, Due], int]]:
        """Every way to load what is due first, and perhaps more."""
        (_, first), *later = due
        for along in _subsets([model for _, model in later]):
            for again in _subsets(sorted(present)):
                loaded = {first, *along, *again}
                stay = {model for model in present if all(self._fit({model, other}) for other in loaded)} | loaded
                left = tuple(each for each in due if each[1] not in loaded)
                for after in self._fullest(stay):
                    if after & loaded:
                        yield (after, left), loads + len(loaded)

    def _fullest(self, models: set[str]) -> Iterator[Present]:
        """What can be there together, of these models, with no room left for another of them."""
        for chosen in map(set, _subsets(sorted(models))):
            if self._fit(chosen) and not any(self._fit(chosen | {other}) for other in models - chosen):
                yield frozenset(chosen)

    def _fit(self, models: set[str]) -> bool:
        return sum(self._sizes[model] for model in models) <= self._budget_bytes


def _subsets(things: Sequence[T]) -> Iterator[tuple[T, ...]]:
    return chain.from_iterable(combinations(things, count) for count in range(len(things) + 1))


def _cheapest(states: Iterable[tuple[tuple[Present, Due], int]]) -> States:
    cheapest: States = {}
    for state, loads in states:
        cheapest[state] = min(loads, cheapest.get(state, loads))
    return cheapest


def _undominated(states: States) -> States:
    """Without those for which there is one that costs as little and has as much, or could have it by loading it."""
    kept: States = {}
    for (present, due), loads in sorted(states.items(), key=lambda item: item[1]):
        for (other, other_due), other_loads in kept.items():
            serves = {model for _, model in other_due} | present
            no_worse = present <= other and _no_sooner(other_due, due)
            if other_loads + (0 if no_worse else len(serves)) <= loads:
                break
        else:
            kept[present, due] = loads
    return kept


def _no_sooner(due: Due, other: Due) -> bool:
    """Whatever is due is due in the other too, and not later."""
    moments = {model: moment_s for moment_s, model in other}
    return all(moments.get(model, math.inf) <= moment_s for moment_s, model in due)
