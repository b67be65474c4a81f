"""What every model for speech and for its recognition should do."""

from typing import NamedTuple

import httpx
import numpy as np

from acceptance.check import Each, check, expect
from acceptance.gateway import Gateway
from acceptance.recording import SPOKEN, Language, wav

SENTENCE = "Good morning. This is a test of the voice."

_LENGTHS_S = (0.8, 15.0)
"""Between which any voice says the sentence."""

_QUIET = 0.003
"""Below this root mean square, of full scale, nobody hears anything."""


class Sound(NamedTuple):
    """seconds: how long it lasts; loudness: root mean square, of full scale"""

    seconds: float
    loudness: float


def judge_wav(content_type: str, content: bytes) -> Sound:
    """Raises Failed unless this is speech in a WAV file, and said to be."""
    expect(
        content_type.split(";")[0] in ("audio/wav", "audio/x-wav", "audio/wave"),
        f"wav was asked for, and the answer says {content_type!r}",
    )
    expect(content[:4] == b"RIFF" and content[8:12] == b"WAVE", f"it is no WAV file; it begins with {content[:12]!r}")
    form, data = content.find(b"fmt "), content.find(b"data")
    expect(form > 0 and data > 0, "it is a WAV file without sound")
    rate_bytes, bits = (int.from_bytes(content[form + at : form + at + 4], "little") for at in (16, 22))
    expect(bits & 0xFFFF == 16, f"it has {bits & 0xFFFF} bits")
    samples = np.frombuffer(content[data + 8 : len(content) - (len(content) - data) % 2], "<i2") / 32768
    sound = Sound(len(samples) * 2 / rate_bytes, float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0)
    shortest, longest = _LENGTHS_S
    expect(shortest < sound.seconds < longest, f"it lasts {sound.seconds:.1f} s, which is no time to say that in")
    expect(sound.loudness > _QUIET, "it is silence")
    return sound


def judge_words(text: str, language: Language) -> str:
    """Raises Failed unless the words that matter were heard."""
    spoken = SPOKEN[language]
    lost = [word for word in spoken.words if word not in text.lower()]
    expect(not lost, f"{spoken.text!r} was heard as {text.strip()!r}, without {', '.join(lost)}")
    return text.strip()


def judge_bare(answer: httpx.Response) -> str:
    """Raises Failed unless the body is the transcript and nothing else, which is typed as it comes."""
    expect(answer.status_code == 200, f"refused with {answer.status_code}")
    content_type = answer.headers.get("content-type", "")
    expect(content_type.startswith("text/plain"), f"text was asked for, and the answer says {content_type!r}")
    expect(answer.text.lstrip()[:1] not in ("{", '"', ""), f"the text is wrapped or empty: {answer.text[:60]!r}")
    return answer.text.strip()


VOICES = Each(lambda gateway: gateway.names("tts"), "there is no model for speech")
EARS = Each(lambda gateway: gateway.names("asr"), "there is no model for transcription")


@check("speaks: voice default, as wav", each=VOICES)
def speaks(gateway: Gateway, name: str) -> str:
    answer = gateway.openai.audio.speech.with_raw_response.create(
        model=name, voice="default", input=SENTENCE, response_format="wav"
    )
    sound = judge_wav(answer.headers.get("content-type", ""), answer.content)
    return f"{sound.seconds:.1f} s of sound"


def transcript(gateway: Gateway, name: str, language: Language) -> str:
    """What the model hears."""
    return gateway.openai.audio.transcriptions.create(
        model=name, file=("speech.wav", wav(language)), language=language
    ).text


@check("transcribes English", each=EARS)
def hears_english(gateway: Gateway, name: str) -> str:
    return judge_words(transcript(gateway, name, "en"), "en")


@check("transcribes German", each=EARS)
def hears_german(gateway: Gateway, name: str) -> str:
    return judge_words(transcript(gateway, name, "de"), "de")


@check("transcribes into bare text", each=EARS)
def bare(gateway: Gateway, name: str) -> str:
    form = {"model": name, "response_format": "text", "language": "en"}
    return judge_bare(
        gateway.http.post("/v1/audio/transcriptions", data=form, files={"file": ("speech.wav", wav("en"))})
    )


CHECKS = (speaks, hears_english, hears_german, bare)
