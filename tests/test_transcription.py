"""Transcription as its clients meet it: the real gateway, real recordings, Whisper base and a tiny Cohere."""

import io
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tests.gateway import Gateway, eventually
from tests.test_end_to_end import nothing_held

CONFIG = """\
model_list:
  - {{model_name: Ears, litellm_params: {{model: llmux/whisper}}}}
  - {{model_name: Other-Ears, litellm_params: {{model: llmux/whisper}}}}
  - {{model_name: Cohere, litellm_params: {{model: llmux/cohere}}}}
router_settings:
  model_group_alias: {{whisper-1: Ears, gpt-4o-mini-transcribe: Ears}}
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


def refused(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["message"])


def test_ten_sentences_keep_their_words(client: httpx.Client, voice: Callable[[str], Samples]) -> None:
    with ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(lambda said: text_of(heard(client, recording(voice(said)))), SENTENCES))

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


def test_each_format_is_what_it_says(client: httpx.Client, speech: Samples) -> None:
    def answer(response_format: str) -> httpx.Response:
        return heard(client, recording(speech), response_format=response_format)

    text, srt, vtt = (answer(name) for name in ("text", "srt", "vtt"))
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.text.startswith("On Monday")
    assert srt.headers["content-type"] == "application/x-subrip; charset=utf-8"
    assert srt.text.startswith("1\n00:00:00,")
    assert vtt.headers["content-type"] == "text/vtt; charset=utf-8"
    assert vtt.text.startswith("WEBVTT\n\n00:00:00.")
    verbose = answer("verbose_json").json()
    assert verbose["duration"] == pytest.approx(len(speech) / RATE, abs=0.05)
    assert verbose["segments"][0]["text"].strip() == verbose["text"]


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
    client: httpx.Client, speech: Samples, alias: str
) -> None:
    assert "London" in text_of(heard(client, recording(speech), model=alias))
    assert alias not in client.get("/v1/models").text


# What real clients send


def multipart(sound: bytes, header: str) -> tuple[bytes, dict[str, str]]:
    """A form with a model and a file part of this header."""
    fields = '--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\nEars\r\n'
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
def test_a_part_is_a_file_however_it_is_labelled(client: httpx.Client, speech: Samples, header: str) -> None:
    body, headers = multipart(recording(speech, "mp3", "libmp3lame", 44_100), header)

    assert "London" in text_of(client.post(ROUTE, content=body, headers=headers))


def test_an_upload_may_come_in_chunks(client: httpx.Client, speech: Samples) -> None:
    body, headers = multipart(recording(speech), 'Content-Disposition: form-data; name="file"; filename="x"')
    chunks = (body[at : at + 10_000] for at in range(0, len(body), 10_000))

    assert "London" in text_of(client.post(ROUTE, content=chunks, headers=headers))


def test_parameters_may_come_in_the_query_string(client: httpx.Client, speech: Samples) -> None:
    files = {"file": ("a.wav", recording(speech))}
    answer = client.post(f"{ROUTE}?model=Ears&response_format=text&language=en-US", files=files)

    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("On Monday")
    assert "model is given twice" in refused(
        client.post(f"{ROUTE}?model=Other-Ears", data={"model": "Ears"}, files=files)
    )


def test_a_second_file_and_fields_that_nobody_knows_do_no_harm(client: httpx.Client, speech: Samples) -> None:
    sound = recording(speech)
    fields = {"model": "Ears", "language": "auto", "prompt": "", "temperature": "0", "user": "", "vad_filter": "true"}
    answer = client.post(
        ROUTE, data=fields, files=[("file", ("a.wav", sound)), ("audio_file", ("b.wav", sound, "audio/wav"))]
    )

    assert "London" in text_of(answer)


@pytest.mark.parametrize(
    ("sound", "says"),
    [
        (b"", "empty"),
        (b"Monday in London " * 99, "not a sound recording"),
        (recording(np.full(3 * RATE, 0.1, np.float32))[:40_000], "cut off"),
    ],
    ids=["empty", "text", "cut off"],
)
def test_what_is_no_recording_is_a_400_that_says_so(client: httpx.Client, sound: bytes, says: str) -> None:
    assert says in refused(heard(client, sound))
    assert says in refused(heard(client, sound, stream="true"))


@pytest.mark.parametrize("metadata", ["{", "[1]"])
def test_metadata_that_are_no_object_are_a_400(client: httpx.Client, speech: Samples, metadata: str) -> None:
    assert "metadata must be an object" in refused(heard(client, recording(speech), metadata=metadata))


def test_a_form_without_a_file_is_a_400(client: httpx.Client) -> None:
    assert "file" in refused(client.post(ROUTE, data={"model": "Ears"}))


def test_a_day_of_silence_in_a_small_file_is_refused_at_once(client: httpx.Client) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as out:
        track = out.add_stream("flac", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000 * 300), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8_000
        for minute in range(0, 5 * 60, 5):
            frame.pts = minute * 60 * 8_000
            out.mux(track.encode(frame))
        out.mux(track.encode(None))

    assert "too long" in refused(heard(client, file.getvalue()))


def test_neither_speakers_nor_translations_are_told(client: httpx.Client, speech: Samples) -> None:
    sound = recording(speech)
    assert "who speaks" in refused(heard(client, sound, response_format="diarized_json"))
    files = {"file": ("a.wav", sound)}
    assert "not translated" in refused(client.post("/v1/audio/translations", data={"model": "Ears"}, files=files))


def test_a_client_that_leaves_in_the_middle_of_a_long_file_frees_the_model(gateway: Gateway, speech: Samples) -> None:
    long = recording(np.tile(speech, 100), "mp3", "libmp3lame", 44_100)
    gone = threading.Event()

    def ask_and_leave() -> None:
        with (
            gateway.http() as client,
            client.stream(
                "POST", ROUTE, data={"model": "Ears", "stream": "true"}, files={"file": ("long.mp3", long)}
            ) as answer,
        ):
            next(answer.iter_lines())
        gone.set()

    threading.Thread(target=ask_and_leave).start()
    assert gone.wait(timeout=120)
    eventually(lambda: nothing_held(gateway))


# Cohere's


def test_cohere_is_heard_in_the_language_that_is_said_or_its_own(client: httpx.Client, speech: Samples) -> None:
    sound = recording(speech)
    verbose = {"model": "Cohere", "response_format": "verbose_json"}

    for language, told in (("de", "de"), ("", "en"), ("auto", "en"), ("en-US", "en")):
        answer = heard(client, sound, **verbose, language=language).json()
        [segment] = answer["segments"]
        assert answer["language"] == told
        assert 0 < segment["start"] < segment["end"] < len(speech) / RATE
        assert all(word.startswith("w") for word in answer["text"].split())
    assert heard(client, sound, model="Cohere", response_format="srt").text.startswith("1\n00:00:00,")
    assert "ar, de" in refused(heard(client, sound, model="Cohere", language="sv"))


def test_cohere_tells_no_times_of_words(client: httpx.Client, speech: Samples) -> None:
    fields = {"model": "Cohere", "response_format": "verbose_json", "timestamp_granularities[]": "word"}

    assert "does not tell when each word is said" in refused(heard(client, recording(speech), **fields))


def test_cohere_streams(client: httpx.Client, speech: Samples) -> None:
    answer = heard(client, recording(speech), model="Cohere", stream="true")

    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    assert [event["type"] for event in events] == ["transcript.text.delta", "transcript.text.done"]


def test_a_key_for_a_model_may_use_its_aliases(gateway: Gateway, folder: Path, speech: Samples) -> None:
    key = KeyFile(folder / "state").create("Dictation", models=["Ears"])
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)

    assert "London" in client.audio.transcriptions.create(model="whisper-1", file=("a.wav", recording(speech))).text
    with pytest.raises(openai.PermissionDeniedError):
        client.audio.transcriptions.create(model="Cohere", file=("a.wav", recording(speech)))
