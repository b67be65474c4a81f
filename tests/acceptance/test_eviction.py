import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.eviction import ROWS, Row, Sized, leaving, scene
from vram.policy import Resident, evictions

TASKS = st.sampled_from(["llm", "tts", "asr"])
MODELS = st.lists(st.tuples(TASKS, st.integers(1, 13)), max_size=6)

CARD = [
    Sized("small", "llm", 4),
    Sized("large", "llm", 9),
    Sized("huge", "llm", 13),
    Sized("ears", "asr", 4),
    Sized("voice", "tts", 2),
]


@given(MODELS, TASKS, st.integers(1, 13), st.integers(8, 24))
def test_the_rule_is_the_one_that_the_arbiter_follows(
    loaded: list[tuple[str, int]], task: str, size: int, budget: int
) -> None:
    """It is written twice so that one is held against the other; here all at once, and live for a few."""
    models = [Sized(str(place), task, gb) for place, (task, gb) in enumerate(loaded)]  # type: ignore[arg-type]
    residents = [
        Resident(model.id, model.task, int(model.gb), place, busy=False, pinned=False)
        for place, model in enumerate(models)
    ]
    said = leaving(models, Sized("asked", task, size), budget)  # type: ignore[arg-type]
    missing = sum(model.gb for model in models) + size - budget
    left = evictions(residents, int(missing))
    assert said == (None if left is None else frozenset(int(resident.id) for resident in left))


@pytest.mark.parametrize("row", ROWS[:6], ids=lambda row: row.title)
def test_each_row_of_the_table_is_shown_by_the_sizes_it_was_written_for(row: Row) -> None:
    shown = scene(row, CARD, 16)
    assert shown is not None
    assert [model.task for model in shown.loaded] == list(row.loaded)
    assert leaving(shown.loaded, shown.asked, 16) == row.leave
    assert sum(model.gb for model in shown.loaded) <= 16


def test_the_table_is_cast_as_it_stands_in_the_documentation() -> None:
    first, second = (scene(row, CARD, 16) for row in ROWS[:2])
    assert first is not None
    assert second is not None
    assert [model.id for model in (*first.loaded, first.asked)] == ["ears", "voice", "small", "large"]
    assert [model.id for model in (*second.loaded, second.asked)] == ["ears", "voice", "small", "huge"]


def test_a_card_that_is_too_large_or_too_small_shows_nothing() -> None:
    assert scene(ROWS[3], CARD, 80) is None
    assert scene(ROWS[0], CARD, 6) is None


def test_sizes_that_only_just_fit_are_not_trusted() -> None:
    exact = [Sized("a", "llm", 8), Sized("b", "llm", 8)]
    assert scene(ROWS[5], exact, 16) is None
    assert scene(ROWS[5], exact, 16.5) is not None
