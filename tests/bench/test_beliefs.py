"""The ledger in memory believes what the real one does."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bench.beliefs import Beliefs
from vram.ledger import Ledger
from vram.model import ModelSpec

MODEL = ModelSpec("model", "llm", 1000)

lessons = st.lists(
    st.one_of(
        st.tuples(st.just("loaded"), st.none() | st.integers(1, 3000)),
        st.tuples(st.just("peaked"), st.integers(1, 3000)),
        st.tuples(st.just("out_of_memory"), st.integers(1, 3000)),
    )
)


class Unwritten(Ledger):
    def _write(self) -> None:
        pass


@given(lessons)
def test_after_the_same_lessons_both_believe_the_same(lessons: list[tuple[str, int]]) -> None:
    beliefs, ledger = Beliefs(), Unwritten(Path("does not exist"), "gpu")
    for lesson, size in lessons:
        for each in (beliefs, ledger):
            match lesson:
                case "loaded":
                    each.loaded(MODEL, size, 2.0)
                case "peaked":
                    each.peaked(MODEL, size)
                case _:
                    each.out_of_memory(MODEL, size)
        assert beliefs.bytes_for(MODEL) == ledger.bytes_for(MODEL)
        assert beliefs.figures(MODEL).measured_bytes == ledger.figures(MODEL).measured_bytes
