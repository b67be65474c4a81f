import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.reading import in_words, plain


def said(text: str, language: str = "en") -> str:
    return " ".join(in_words(plain(text, language), language).split())


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("# A title\n\nSome **bold** and _slanted_ words.", "A title Some bold and slanted words."),
        ("See [the page](https://example.com/x?y=1).", "See the page."),
        ("![A cat](cat.png) sleeps", "A cat sleeps"),
        ("Run `make demo` now", "Run make demo now"),
        ("Before\n\n```python\nprint(1)\n```\n\nafter", "Before after"),
        ("- one\n- two", "one two"),
        ("1. Boil\n2. Stir", "one. Boil two. Stir"),
        ("| a | b |\n|---|---|\n| c | d |", "a, b. c, d."),
        ("> A quote", "A quote"),
        ("~~gone~~ stays", "gone stays"),
        ("    An indented verse", "An indented verse"),
        ("<b>Bold</b> and a<br>break<!-- not this -->", "Bold and a break"),
        ("3 < 5 and 7 > 2", "three < five and seven > two"),
        ("2 * 3 * 4", "two * three * four"),
        ("snake_case_name", "snake_case_name"),
        ("one\\\ntwo", "one two"),
    ],
)
def test_markdown_is_read_without_its_marks(written: str, read: str) -> None:
    assert said(written) == read


def test_code_is_read_where_there_is_nothing_else() -> None:
    assert said("```\nhello world\n```") == "hello world"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Go to https://www.example.com/a/b?c=1#d.", "Go to example dot com."),
        ("Go to www.example.org, now", "Go to example dot org, now"),
        ("Not https://[broken here", "Not here"),
        ("Ask bob@mail.example.org", "Ask bob at mail dot example dot org"),
    ],
)
def test_an_address_is_said_short(written: str, read: str) -> None:
    assert said(written) == read


def test_an_address_is_said_in_the_text_s_language() -> None:
    assert said("Siehe www.example.de.", "de") == "Siehe example Punkt de."


@pytest.mark.parametrize("emoji", ["😀", "👩‍👩‍👧", "☺️", "5️⃣", "🇩🇪", "👍🏽", "❤️"])
def test_emoji_are_left_out(emoji: str) -> None:
    assert said(f"Well {emoji} done") == "Well done"
    assert said(emoji) == ""


def test_signs_that_are_also_emoji_to_some_stay() -> None:
    assert said("© Brown™") == "© Brown™"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1,250 people", "one thousand, two hundred and fifty people"),
        ("3.14", "three point one four"),
        ("12.5%", "twelve point five percent"),
        ("in 1984", "in nineteen eighty-four"),
        ("in 2024.", "in twenty twenty-four."),
        ("the 3rd and the 21st", "the third and the twenty-first"),
        ("$9.99", "nine dollars, ninety-nine cents"),
        ("£5", "five pounds sterling"),
        ("at -5 degrees", "at minus five degrees"),
        ("agent 007", "agent zero zero seven"),
        ("192.168.0.1", "one hundred and ninety-two, one hundred and sixty-eight, zero, one"),
        ("2 + 2 = 4", "two plus two equals four"),
        ("salt & pepper", "salt and pepper"),
        ("R2D2", "R two D two"),
        ("9" * 20, " ".join(["nine"] * 20)),
    ],
)
def test_numbers_and_signs_are_written_out(written: str, read: str) -> None:
    assert said(written) == read


@pytest.mark.parametrize(
    ("language", "written", "read"),
    [
        ("de", "1.250 Leute", "eintausendzweihundertfünfzig Leute"),
        ("de", "12,5 %", "zwölf Komma fünf Prozent"),
        ("de", "9,99 €", "neun Euro und neunundneunzig Cent"),
        ("fr", "3,5", "trois virgule cinq"),
        ("es", "21", "veintiuno"),
        ("zh", "123 元", "123 元"),
        ("nl", "0.000", "nul nul nul nul"),
        ("no", "9" * 40 + " €", " ".join(["ni"] * 40) + " €"),
    ],
)
def test_each_language_says_its_own_numbers(language: str, written: str, read: str) -> None:
    assert said(written, language) == read


@given(st.text(max_size=300), st.sampled_from(["en", "de", "fr", "es", "it", "ko", "ar", "tr", "zh"]))
def test_no_text_is_too_strange(text: str, language: str) -> None:
    assert "\x00" not in said(text, language)


STRANGE = st.lists(
    st.sampled_from(
        [*"0123456789", *".,:/-%$€'#&+= \n*_`|<>", "000", "th", "http://", "](", "![", "```\n", "> ", "٣", "²"]
    )
)


@given(STRANGE, st.sampled_from(["en", "de", "it", "nl", "no", "sv", "pl", "ja"]))
def test_no_number_is_too_strange(parts: list[str], language: str) -> None:
    said("".join(parts), language)
