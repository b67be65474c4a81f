import pytest

from providers.language import detected

KNOWN = ("de", "en", "fr", "no", "sv", "ko", "ar")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Hello there, how are you today?", "en"),
        ("Guten Morgen, wie geht es dir heute?", "de"),
        ("Bonjour tout le monde, comment allez-vous ?", "fr"),
        ("안녕하세요, 오늘 날씨가 좋네요.", "ko"),
        ("مرحبا، كيف حالك اليوم؟", "ar"),
    ],
)
def test_a_sentence_tells_its_language(text: str, language: str) -> None:
    assert detected(text, KNOWN) == language


def test_where_there_is_one_language_it_is_that() -> None:
    assert detected("Guten Morgen", ("en",)) == "en"


@pytest.mark.parametrize("text", ["42", "", "!"])
def test_what_could_be_any_language_is_none(text: str) -> None:
    assert detected(text, KNOWN) is None


def test_bokmal_is_norwegian() -> None:
    assert detected("Jeg vet ikke hva han heter, men han bor i Oslo.", KNOWN) == "no"
