import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.sentences import FIRST, LONGEST, pieces


def letters(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


@given(st.text(max_size=2_000))
def test_pieces_are_short_and_lose_no_letter(text: str) -> None:
    cut = pieces(text)

    assert all(0 < len(piece) <= LONGEST for piece in cut)
    assert letters("".join(cut)) == letters(text)


@given(st.text(alphabet="ab. ,\n", max_size=1_000))
def test_the_first_piece_is_short(text: str) -> None:
    assert all(len(piece) <= FIRST for piece in pieces(text)[:1])


def test_the_first_sentence_leaves_alone_and_the_others_together() -> None:
    assert pieces("One is here. Two is here. Three is here.") == ["One is here.", "Two is here. Three is here."]


def test_a_long_sentence_is_cut_after_a_clause() -> None:
    sentence = f"{'Word ' * 40}ends, and {'more ' * 40}ends."
    first, second, *rest = pieces(f"Short. {sentence}")

    assert first == "Short."
    assert second.endswith("ends,")
    assert rest[0].startswith("and more")


def test_a_word_without_end_is_cut_anywhere() -> None:
    cut = pieces("a" * 1_000)

    assert "".join(cut).replace(" ", "") == "a" * 1_000


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith met J. R. Brown. They spoke.", ["Dr. Smith met J. R. Brown.", "They spoke."]),
        ("It is e.g. Monday. Then Tuesday.", ["It is e.g. Monday.", "Then Tuesday."]),
        ("It rose by approx. 3.5 points. Good!", ["It rose by approx. 3.5 points.", "Good!"]),
        ('He said "Stop!" and left. She stayed.', ['He said "Stop!" and left.', "She stayed."]),
        ("Wait... what? Yes.", ["Wait... what?", "Yes."]),
        ("你好。今天天气很好。", ["你好。", "今天天气很好。"]),
        ("A heading\nA line.", ["A heading", "A line."]),
        ("Really?! No way.", ["Really?!", "No way."]),
        ("Herr Dr. Weber kommt z.B. am Montag. Gut.", ["Herr Dr. Weber kommt z.B. am Montag.", "Gut."]),
    ],
)
def test_sentences_end_where_they_end(text: str, sentences: list[str]) -> None:
    assert pieces(text) == sentences


@pytest.mark.parametrize("text", ["", " \n ", "...", "?!", "-- --"])
def test_nothing_to_say_is_no_piece(text: str) -> None:
    assert pieces(text) == []


def test_marks_without_a_word_are_not_said_alone() -> None:
    assert pieces("One.\n***\nTwo.") == ["One.", "Two."]
