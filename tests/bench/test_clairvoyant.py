"""The bound is right where it can be counted by trying everything."""

import math
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.clairvoyant import Clairvoyant

MODELS = "abc"


def alone(limit_s: float) -> Clairvoyant:
    """Each model takes the whole budget."""
    return Clairvoyant(dict.fromkeys(MODELS, 1), 1, dict.fromkeys(MODELS, limit_s))


def test_who_may_not_wait_costs_a_load_at_each_change() -> None:
    assert alone(0).fewest_loads([*enumerate("abaacabc")]) == 7


def test_who_may_wait_for_long_is_served_with_all_others_of_its_model() -> None:
    assert alone(20).fewest_loads([*enumerate("abaacabc")]) == 3


def test_what_fits_together_is_loaded_once() -> None:
    together = Clairvoyant(dict.fromkeys(MODELS, 1), 3, dict.fromkeys(MODELS, 0))
    assert together.fewest_loads([*enumerate("abaacabc")]) == 3


def test_the_last_of_those_loaded_together_is_the_one_that_is_wanted_next() -> None:
    """b is loaded before a at 2, so that a is there when it is wanted again."""
    assert alone(2).fewest_loads([(0, "a"), (1, "b"), (4, "a"), (5, "a")]) == 2


ARRIVALS = st.lists(st.tuples(st.integers(0, 7), st.sampled_from(MODELS)), min_size=1, max_size=7).map(sorted)
LIMITS = st.fixed_dictionaries({model: st.integers(0, 3) for model in MODELS})


def tried(arrivals: list[tuple[int, str]], sizes: dict[str, int], budget: int, limits_s: dict[str, int]) -> float:
    """The fewest loads, found by loading anything at any whole second, asked for or not."""
    configs = [frozenset(each) for count in range(4) for each in combinations(MODELS, count)]
    configs = [each for each in configs if sum(sizes[model] for model in each) <= budget]
    states: dict[tuple[frozenset[str], frozenset[tuple[str, int]]], int] = {(frozenset(), frozenset()): 0}
    for second in range(12):
        came = [model for moment, model in arrivals if moment == second]
        arrived = {}
        for (present, waiting), loads in states.items():
            named = {model for model, _ in waiting}
            new = {(model, second + limits_s[model]) for model in came if model not in present and model not in named}
            arrived[present, waiting | new] = loads
        states, ahead = {}, sorted(arrived.items(), key=lambda item: item[1])
        while ahead:
            (present, waiting), loads = ahead.pop(0)
            if loads >= states.get((present, waiting), math.inf):
                continue
            states[present, waiting] = loads
            for after in configs:
                if len(after - present) == 1:
                    left = frozenset(each for each in waiting if each[0] not in after)
                    ahead.append(((after, left), loads + 1))
            ahead.sort(key=lambda item: item[1])
        states = {
            (present, waiting): loads
            for (present, waiting), loads in states.items()
            if all(until > second for _, until in waiting)
        }
    return min(states.values())


@given(ARRIVALS, LIMITS)
@settings(max_examples=40, deadline=None)
def test_models_that_exclude_each_other_cost_what_trying_everything_finds(
    arrivals: list[tuple[int, str]], limits_s: dict[str, int]
) -> None:
    sizes = dict.fromkeys(MODELS, 1)
    assert Clairvoyant(sizes, 1, limits_s).fewest_loads(arrivals) == tried(arrivals, sizes, 1, limits_s)


@given(ARRIVALS, LIMITS, st.fixed_dictionaries({model: st.integers(1, 3) for model in MODELS}))
@settings(max_examples=40, deadline=None)
def test_nothing_that_could_be_done_costs_less(
    arrivals: list[tuple[int, str]], limits_s: dict[str, int], sizes: dict[str, int]
) -> None:
    assert Clairvoyant(sizes, 3, limits_s).fewest_loads(arrivals) <= tried(arrivals, sizes, 3, limits_s)
