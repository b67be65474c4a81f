import httpx
import pytest

from acceptance.check import Failed
from acceptance.recording import wav
from acceptance.sound import judge_bare, judge_wav, judge_words


def test_speech_in_a_wav_file_passes() -> None:
    sound = judge_wav("audio/wav", wav("en"))
    assert 2 < sound.seconds < 6
    assert sound.loudness > 0.01


def test_a_size_that_is_not_known_yet_does_not_matter() -> None:
    """A stream sends its header before it knows how long it becomes."""
    streamed = wav("en")[:40] + b"\xff\xff\xff\xff" + wav("en")[44:]
    assert judge_wav("audio/x-wav", streamed) == judge_wav("audio/wav", wav("en"))


@pytest.mark.parametrize(
    ("content_type", "content", "wrong"),
    [
        ("audio/mpeg", wav("en"), "says 'audio/mpeg'"),
        ("audio/wav", b"ID3" + bytes(5000), "no WAV file"),
        ("audio/wav", b"RIFF....WAVE", "without sound"),
        ("audio/wav", wav("en")[:2000], "no time to say that"),
        ("audio/wav", wav("en")[:44] + bytes(100_000), "silence"),
    ],
)
def test_anything_else_is_a_failure(content_type: str, content: bytes, wrong: str) -> None:
    with pytest.raises(Failed, match=wrong):
        judge_wav(content_type, content)


def test_the_words_that_matter_must_be_heard() -> None:
    assert judge_words(" on monday a train left LONDON ", "en") == "on monday a train left LONDON"
    with pytest.raises(Failed, match="without london"):
        judge_words("On Monday the train leaves.", "en")


def test_bare_text_is_typed_as_it_comes() -> None:
    assert judge_bare(httpx.Response(200, text="On Monday.\n")) == "On Monday."
    for answer in (
        httpx.Response(200, json={"text": "On Monday."}),
        httpx.Response(200, text='{"text": "On Monday."}'),
        httpx.Response(200, text=""),
        httpx.Response(500, text="On Monday."),
    ):
        with pytest.raises(Failed):
            judge_bare(answer)
