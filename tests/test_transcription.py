"""Transcription as its clients meet it: the real gateway, real recordings, Whisper base and a tiny Cohere.

Whisper tells what was said. Where a recording need only arrive, Cohere hears it, which takes no time and says the same
of the same sound.
"""

import io
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest

from llmux.keys import KeyFile
from providers.audio import resample
from providers.runtime import Samples
from tests import checkpoints
from tests.gateway import MASTER_KEY, Gateway, eventually
from tests.test_end_to_end import nothing_held

CONFIG = """\
model_list:
  - {{model_name: Ears, litellm_params: {{model: llmux/whisper}}}}
  - {{model_name: Cohere, litellm_params: {{model: llmux/cohere}}}}
router_settings:
  model_group_alias: {{whisper-1: Cohere, gpt-4o-mini-transcribe: Cohere}}
llmux:
  budget: 1 GB
  database: none
  models_dir: {models}
  models:
    whisper: {{task: asr, runtime: transformers, weights: whisper-base, estimate: 300 MB, max_concurrency: 8}}
    cohere:
      {{task: asr, runtime: transformers, weights: cohere, estimate: 10 MB, max_concurrency: 8, default_language: en}}
"""

ROUTE = "/v1/audio/transcriptions"
RATE = 24_000

SENTENCES = {
    "On Monday the train leaves London at noon.": ("monday", "train", "london"),
    "My sister planted three apple trees behind the house.": ("sister", "apple", "house"),
    "The doctor closed the window because it was raining.": ("doctor", "window", "raining"),
    "Please bring the small table into the kitchen.": ("small", "table", "kitchen"),
    "Nobody in the village could repair the old radio.": ("village", "radio"),
    "We walked along the river until the sun went down.": ("river", "sun", "down"),
    "The captain wrote a long letter to his brother.": ("captain", "letter", "brother"),
    "Every Friday they sing together in the church.": ("friday", "church"),
    "The children found a silver coin under the bridge.": ("children", "silver", "bridge"),
    "Tomorrow morning the shop will open very late.": ("tomorrow", "shop", "late"),
}
SENTENCE = next(iter(SENTENCES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transcription")


@pytest.fixture(scope="module")
def gateway(folder: Path, demo_models: Path) -> Iterator[Gateway]:
    (folder / "models").mkdir()
    (folder / "models" / "whisper-base").symlink_to(demo_models / "whisper-base")
    checkpoints.write_cohere(folder / "models" / "cohere")
    (folder / "config.yaml").write_text(CONFIG.format(models=folder / "models"))
    gateway = Gateway(folder / "config.yaml")
    yield gateway
    gateway.stop()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.http() as client:
        yield client


@pytest.fixture(scope="module")
def voice() -> Callable[[str], Samples]:
    from hibari import Hibari

    hibari = Hibari()
    return lambda text: hibari(text, seed=1)


@pytest.fixture(scope="module")
def speech(voice: Callable[[str], Samples]) -> Samples:
    return voice(SENTENCE)


def recording(samples: Samples, container: str = "wav", codec: str = "pcm_s16le", rate: int = RATE) -> bytes:
    """As another program would write it: in stereo, at its own rate."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        track = out.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.tile(resample(samples, RATE, rate), (2, 1)), format="fltp", layout="stereo"
        )
        frame.sample_rate, frame.pts = rate, 0
        out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return file.getvalue()


def heard(client: httpx.Client, sound: bytes, name: str = "speech.wav", **fields: Any) -> httpx.Response:
    return client.post(ROUTE, data={"model": "Ears", "language": "en", **fields}, files={"file": (name, sound)})


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["text"])


@pytest.fixture(scope="module")
def sound(speech: Samples) -> bytes:
    return recording(speech)


@pytest.fixture(scope="module")
def text(gateway: Gateway, sound: bytes) -> str:
    """What Cohere makes of that sound."""
    with gateway.http() as client:
        return text_of(heard(client, sound, model="Cohere"))


def refused(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["message"])


def test_ten_sentences_keep_their_words(client: httpx.Client, voice: Callable[[str], Samples]) -> None:
    recordings = [recording(voice(said)) for said in SENTENCES]
    with ThreadPoolExecutor(5) as threads:
        texts = list(threads.map(lambda sound: text_of(heard(client, sound)), recordings))

    missing = [
        (word, text)
        for words, text in zip(SENTENCES.values(), texts, strict=True)
        for word in words
        if word not in text.lower()
    ]
    assert missing == []


def test_german_is_heard(client: httpx.Client) -> None:
    said = "Am Montag fahren wir mit dem Zug nach Berlin. Das Wetter ist heute sehr schön."
    spoken = subprocess.run(
        ["espeak-ng", "-v", "de", "-s", "130", "--stdout", said], capture_output=True, check=True, timeout=30
    ).stdout

    text = text_of(heard(client, spoken, language="de"))

    assert {"montag", "berlin", "heute"} <= {word.strip(".,").lower() for word in text.split()}


@pytest.mark.parametrize(
    ("container", "codec", "rate", "name"),
    [
        ("wav", "pcm_s16le", 44_100, "a.mp3"),
        ("mp3", "libmp3lame", 44_100, "a"),
        ("ipod", "aac", 44_100, "a.m4a"),
        ("ogg", "libopus", 48_000, "a.oga"),
        ("webm", "libopus", 48_000, "blob"),
        ("flac", "flac", 48_000, "a.txt"),
    ],
)
def test_each_container_is_heard_whatever_its_file_is_called(
    client: httpx.Client, speech: Samples, container: str, codec: str, rate: int, name: str
) -> None:
    text = text_of(heard(client, recording(speech, container, codec, rate), name))

    assert "Monday" in text
    assert "London" in text


@pytest.mark.parametrize("sound", ["silence", "noise", "hum", "music"])
def test_where_nobody_speaks_the_text_is_empty(client: httpx.Client, sound: str) -> None:
    at_s = np.arange(20 * RATE) / RATE
    chance = np.random.default_rng(0)
    samples = {
        "silence": np.zeros(len(at_s)),
        "noise": chance.normal(scale=0.1, size=len(at_s)),
        "hum": 0.3 * np.sin(2 * np.pi * 50 * at_s),
        "music": 0.2 * np.sin(2 * np.pi * chance.choice([262, 330, 392, 440], 40)[(2 * at_s).astype(int)] * at_s),
    }[sound].astype(np.float32)

    assert text_of(heard(client, recording(samples))) == ""
    assert text_of(heard(client, recording(samples), model="Cohere")) == ""


def test_each_format_is_what_it_says(client: httpx.Client, sound: bytes, text: str) -> None:
    def answer(response_format: str) -> httpx.Response:
        return heard(client, sound, model="Cohere", response_format=response_format)

    bare, srt, vtt = (answer(name) for name in ("text", "srt", "vtt"))
    assert bare.headers["content-type"] == "text/plain; charset=utf-8"
    assert bare.text == f"{text}\n"
    assert srt.headers["content-type"] == "application/x-subrip; charset=utf-8"
    assert re.fullmatch(rf"1\n00:00:00,\d{{3}} --> 00:00:0\d,\d{{3}}\n{text}\n\n", srt.text)
    assert vtt.headers["content-type"] == "text/vtt; charset=utf-8"
    assert re.fullmatch(rf"WEBVTT\n\n00:00:00\.\d{{3}} --> 00:00:0\d\.\d{{3}}\n{text}\n\n", vtt.text)
    verbose = answer("verbose_json").json()
    assert verbose["duration"] == pytest.approx((len(sound) - 44) / 4 / RATE, abs=0.05)
    assert verbose["segments"][0]["text"].strip() == verbose["text"] == text


def test_words_have_times_where_they_are_asked_for(gateway: Gateway, speech: Samples) -> None:
    answer = gateway.openai().audio.transcriptions.create(
        model="Ears",
        file=("speech.wav", recording(speech)),
        response_format="verbose_json",
        timestamp_granularities=["word"],
    )

    assert answer.words is not None
    assert " ".join(word.word for word in answer.words) == answer.text
    assert all(0 <= word.start < word.end <= len(speech) / RATE for word in answer.words)


def test_the_text_is_streamed_as_it_is_heard(gateway: Gateway, speech: Samples) -> None:
    long = np.concatenate([speech, np.zeros(4 * RATE, np.float32)] * 2)
    events = list(
        gateway.openai().audio.transcriptions.create(model="Ears", file=("a.wav", recording(long)), stream=True)
    )

    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    done = events[-1]
    assert done.type == "transcript.text.done"
    assert done.text == "".join(deltas)
    assert done.text.count("London") == 2


@pytest.mark.parametrize("alias", ["whisper-1", "gpt-4o-mini-transcribe"])
def test_names_that_clients_hard_code_are_understood_and_not_listed(
    client: httpx.Client, sound: bytes, text: str, alias: str
) -> None:
    assert text_of(heard(client, sound, model=alias)) == text
    assert alias not in client.get("/v1/models").text


# What real clients send


def multipart(sound: bytes, header: str, *, model: str = "Cohere") -> tuple[bytes, dict[str, str]]:
    """A form with a model and a file part of this header."""
    fields = f'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'
    body = f"{fields}--edge\r\n{header}\r\n\r\n".encode() + sound + b"\r\n--edge--\r\n"
    return body, {"content-type": "multipart/form-data; boundary=edge"}


@pytest.mark.parametrize(
    "header",
    [
        'Content-Disposition: form-data; name="file"; filename="x"',
        'Content-Disposition: form-data; name="file"; filename="x.mp3"\r\nContent-Type: application/octet-stream',
        'Content-Disposition: form-data; name="file"; filename="x.png"\r\nContent-Type: image/png',
        'Content-Disposition: form-data; name="file"; filename=""\r\nContent-Type: audio/mpeg',
        'content-disposition: form-data; name="file"',
        "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''x.mp3",
    ],
    ids=["no type", "any type", "a wrong type", "an empty name", "no name", "another kind of name"],
)
def test_a_part_is_a_file_however_it_is_labelled(client: httpx.Client, sound: bytes, text: str, header: str) -> None:
    body, headers = multipart(sound, header)

    assert text_of(client.post(ROUTE, content=body, headers=headers)) == text


def test_an_upload_may_come_in_chunks(client: httpx.Client, sound: bytes, text: str) -> None:
    body, headers = multipart(sound, 'Content-Disposition: form-data; name="file"; filename="x"')
    chunks = (body[at : at + 10_000] for at in range(0, len(body), 10_000))

    assert text_of(client.post(ROUTE, content=chunks, headers=headers)) == text


def test_parts_that_come_at_one_time_are_not_mixed_up(
    client: httpx.Client, sound: bytes, text: str, voice: Callable[[str], Samples]
) -> None:
    """As Open WebUI sends a large file, while others ask in other languages."""
    other = recording(voice("Good morning."))
    asked = [(part, language) for part in (sound, other) for language in ("en", "de", "fr")]

    def hear(part: bytes, language: str) -> str:
        return text_of(heard(client, part, model="Cohere", language=language))

    alone = [hear(*each) for each in asked]
    with ThreadPoolExecutor(12) as threads:
        together = list(threads.map(lambda each: hear(*each), asked * 3))

    assert alone[0] == text
    assert len(set(alone)) == len(asked)
    assert together == alone * 3


def test_parameters_may_come_in_the_query_string(client: httpx.Client, sound: bytes, text: str) -> None:
    files = {"file": ("a.wav", sound)}
    answer = client.post(f"{ROUTE}?model=Cohere&response_format=text&language=en-US", files=files)

    assert answer.status_code == 200, answer.text
    assert answer.text == f"{text}\n"
    assert "model is given twice" in refused(client.post(f"{ROUTE}?model=Ears", data={"model": "Cohere"}, files=files))


def test_a_second_file_and_fields_that_nobody_knows_do_no_harm(client: httpx.Client, sound: bytes, text: str) -> None:
    fields = {"model": "Cohere", "language": "auto", "prompt": "", "temperature": "0", "user": ""} | {
        "vad_filter": "true",
        "self": "x",
        "litellm_logging_obj": "x",
    }
    answer = client.post(
        ROUTE, data=fields, files=[("file", ("a.wav", sound)), ("audio_file", ("b.wav", sound, "audio/wav"))]
    )

    assert text_of(answer) == text


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        (b"", "empty"),
        (b"Monday in London " * 99, "not a sound recording"),
        (recording(np.full(3 * RATE, 0.1, np.float32))[:40_000], "cut off"),
    ],
    ids=["empty", "text", "cut off"],
)
def test_what_is_no_recording_is_a_400_that_says_so(client: httpx.Client, damaged: bytes, says: str) -> None:
    assert says in refused(heard(client, damaged))
    assert says in refused(heard(client, damaged, stream="true"))


@pytest.mark.parametrize("metadata", ["{", "[1]"])
def test_metadata_that_are_no_object_are_a_400(client: httpx.Client, sound: bytes, metadata: str) -> None:
    assert "metadata must be an object" in refused(heard(client, sound, metadata=metadata))


def test_a_form_without_a_file_is_a_400(client: httpx.Client) -> None:
    assert "file" in refused(client.post(ROUTE, data={"model": "Ears"}))


def test_hours_of_silence_in_a_small_file_are_refused_at_once(client: httpx.Client) -> None:
    file = io.BytesIO()
    rate, hours = 1_000, 5
    with av.open(file, "w", format="flac") as out:
        track = out.add_stream("flac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, rate * 3600), np.int16), format="s16", layout="mono")
        frame.sample_rate = rate
        for hour in range(hours):
            frame.pts = hour * 3600 * rate
            out.mux(track.encode(frame))
        out.mux(track.encode(None))

    assert "too long" in refused(heard(client, file.getvalue()))


def test_neither_speakers_nor_translations_are_told(client: httpx.Client, sound: bytes) -> None:
    assert "who speaks" in refused(heard(client, sound, response_format="diarized_json"))
    files = {"file": ("a.wav", sound)}
    assert "not translated" in refused(client.post("/v1/audio/translations", data={"model": "Ears"}, files=files))


@pytest.fixture(scope="module")
def long(speech: Samples) -> bytes:
    """Twenty windows."""
    pause = np.zeros(4 * RATE, np.float32)
    return recording(np.tile(np.concatenate([speech, pause]), 20))


def test_a_client_that_leaves_in_the_middle_of_a_long_file_frees_the_model(gateway: Gateway, long: bytes) -> None:
    fields = {"model": "Ears", "language": "en", "stream": "true"}
    with (
        gateway.http() as client,
        client.stream("POST", ROUTE, data=fields, files={"file": ("long.wav", long)}) as answer,
    ):
        lines = answer.iter_lines()  # once this is gone, so is the client
        assert "London" in next(lines)
        assert not nothing_held(gateway)

    eventually(lambda: nothing_held(gateway))


def test_a_client_that_leaves_before_its_answer_has_begun_frees_the_model(gateway: Gateway, long: bytes) -> None:
    body, headers = multipart(long, 'Content-Disposition: form-data; name="file"; filename="x"', model="Ears")
    connection = HTTPConnection("127.0.0.1", gateway.port)
    connection.request("POST", ROUTE, body, {**headers, "authorization": f"Bearer {MASTER_KEY}"})
    eventually(lambda: not nothing_held(gateway))

    connection.close()

    eventually(lambda: nothing_held(gateway))


# Cohere's


def test_cohere_is_heard_in_the_language_that_is_said_or_its_own(
    client: httpx.Client, speech: Samples, sound: bytes
) -> None:
    verbose = {"model": "Cohere", "response_format": "verbose_json"}

    for language, told in (("de", "de"), ("", "en"), ("auto", "en"), ("en-US", "en")):
        answer = heard(client, sound, **verbose, language=language).json()
        [segment] = answer["segments"]
        assert answer["language"] == told
        assert 0 < segment["start"] < segment["end"] < len(speech) / RATE
        assert all(word.startswith("w") for word in answer["text"].split())
    assert "ar, de" in refused(heard(client, sound, model="Cohere", language="sv"))


def test_cohere_tells_no_times_of_words(client: httpx.Client, sound: bytes) -> None:
    fields = {"model": "Cohere", "response_format": "verbose_json", "timestamp_granularities[]": "word"}

    assert "does not tell when each word is said" in refused(heard(client, sound, **fields))


def test_cohere_streams(client: httpx.Client, sound: bytes) -> None:
    answer = heard(client, sound, model="Cohere", stream="true")

    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    assert [event["type"] for event in events] == ["transcript.text.delta", "transcript.text.done"]


def test_a_key_for_a_model_may_use_its_aliases(gateway: Gateway, folder: Path, sound: bytes, text: str) -> None:
    key = KeyFile(folder / "state").create("Dictation", models=["Cohere"])
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)

    assert client.audio.transcriptions.create(model="whisper-1", file=("a.wav", sound)).text == text
    with pytest.raises(openai.PermissionDeniedError):
        client.audio.transcriptions.create(model="Ears", file=("a.wav", sound))
