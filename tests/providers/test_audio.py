import io
import wave
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from llmux.errors import InvalidAudio
from providers import audio
from providers.audio import CONTENT_TYPES, ENCODED_RATE, Encoder, Encoding, blocks, decode, resample
from providers.runtime import Samples

ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)


def tone(seconds: float, rate: int, loudness: float = 0.5) -> Samples:
    return (loudness * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def loudness(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def encoded(encoding: Encoding, samples: Samples, rate: int, step: int = 4_800) -> bytes:
    encoder = Encoder(encoding, rate)
    pieces = [encoder.encode(samples[start : start + step]) for start in range(0, len(samples), step)]
    return b"".join([*pieces, encoder.finish()])


def recording(
    container: str, codec: str | None, rate: int = 48_000, layout: str = "stereo", *, picture: bool = False
) -> bytes:
    """Two seconds of a tone on every channel, as another program would write it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        video = out.add_stream("mpeg4", rate=10) if picture else None
        sound = out.add_stream(codec, rate=rate, layout=layout) if codec else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            for number in range(20):
                image = av.VideoFrame(64, 64, "yuv420p")
                image.pts, image.time_base = number, Fraction(1, 10)
                out.mux(video.encode(image))
            out.mux(video.encode(None))
        if sound is not None:
            channels = np.tile(tone(2, rate), (sound.layout.nb_channels, 1))
            frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            out.mux(sound.encode(frame))
            out.mux(sound.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    "sent",
    [
        recording("wav", "pcm_s16le", 44_100),
        recording("wav", "pcm_u8", 8_000, "mono"),
        recording("wav", "pcm_s24le"),
        recording("wav", "pcm_f64le", layout="5.1"),
        recording("wav", "pcm_mulaw", 8_000, "mono"),
        recording("mp3", "libmp3lame", 44_100),
        recording("flac", "flac"),
        recording("ogg", "libopus"),
        recording("ogg", "flac"),
        recording("ipod", "aac", 44_100),
        recording("3gp", "aac", 44_100),
        recording("adts", "aac", 44_100),
        recording("webm", "libopus", layout="mono"),
        recording("aiff", "pcm_s16be", 44_100),
        recording("caf", "alac", 44_100),
        recording("mp4", "aac", 44_100, picture=True),
        recording("matroska", "libmp3lame", 44_100, picture=True),
        recording("mpegts", "aac", 44_100, picture=True),
    ],
    ids=[
        "wav",
        "wav-u8",
        "wav-s24",
        "wav-f64-5.1",
        "wav-mulaw",
        "mp3",
        "flac",
        "ogg-opus",
        "ogg-flac",
        "m4a",
        "3gp",
        "adts",
        "webm",
        "aiff",
        "caf",
        "video-mp4",
        "video-mkv",
        "video-ts",
    ],
)
def test_whatever_a_recorder_writes_is_understood(sent: bytes) -> None:
    samples = decode(sent, 16_000, max_s=60)

    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) == pytest.approx(32_000, rel=0.03)
    assert loudness(samples) == pytest.approx(loudness(tone(2, 16_000)), rel=0.08)


def test_full_scale_on_all_channels_does_not_clip() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.stack([tone(1, 16_000, 0.99)] * 2, axis=1), 16_000, format="WAV", subtype="FLOAT")

    assert np.abs(decode(file.getvalue(), 16_000, max_s=60)).max() == pytest.approx(0.99, abs=0.001)


def test_floats_beyond_the_scale_and_no_numbers_are_tamed() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.array([4.0, -4.0, np.nan, np.inf, 0.5] * 100), 16_000, format="WAV", subtype="FLOAT")

    samples = decode(file.getvalue(), 16_000, max_s=60)

    assert np.isfinite(samples).all()
    assert np.abs(samples).max() == 1.0


def test_the_rate_may_change_in_a_chained_recording() -> None:
    chained = encoded("mp3", tone(1, 24_000), 24_000) + recording("mp3", "libmp3lame", 44_100)

    assert len(decode(chained, 16_000, max_s=60)) == pytest.approx(48_000, rel=0.05)


def test_what_can_still_be_heard_of_a_cut_file_counts() -> None:
    sent = recording("mp3", "libmp3lame", 44_100)

    assert len(decode(sent[: len(sent) // 2], 16_000, max_s=60)) == pytest.approx(16_000, rel=0.1)


def test_a_track_that_turns_up_half_way_ends_nothing_worse_than_the_sound() -> None:
    sent = bytearray(recording("mpegts", "aac", 44_100))
    sent[45 * 188 + 1] = 0xFF  # one packet of another track

    assert 0 < len(decode(bytes(sent), 16_000, max_s=60)) <= 33_000


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"RIFF",
        b"Monday in London\n" * 1_000,
        bytes(100_000),
        np.random.default_rng(0).bytes(100_000),
        recording("wav", "pcm_s16le")[:44],
        recording("ogg", "libopus")[:60],
        recording("flac", "flac")[:42],
        recording("ipod", "aac")[:-800],
        recording("mp4", None, picture=True),
    ],
    ids=[
        "empty",
        "four-bytes",
        "text",
        "zeros",
        "noise",
        "wav-header",
        "ogg-header",
        "flac-header",
        "m4a-without-index",
        "no-sound-track",
    ],
)
def test_what_holds_no_sound_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidAudio) as refused:
        decode(sent, 16_000, max_s=60)

    assert refused.value.param == "file"
    for jargon in ("Errno", "libav", "ffmpeg", "avcodec", "whitelist", "Invalid data"):
        assert jargon not in refused.value.message


@pytest.mark.parametrize(
    ("container", "codec"),
    [("wav", "pcm_s16le"), ("flac", "flac"), ("aiff", "pcm_s16be"), ("webm", "libopus"), ("matroska", "libmp3lame")],
)
def test_a_file_that_says_it_is_longer_than_it_is_was_cut_off(container: str, codec: str) -> None:
    sent = recording(container, codec)

    with pytest.raises(InvalidAudio, match="cut off"):
        decode(sent[: len(sent) // 2], 16_000, max_s=60)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_that_was_begun_without_knowing_its_end_is_whole(size: int) -> None:
    sent = bytearray(recording("wav", "pcm_s16le", 16_000, "mono"))
    sent[4:8] = size.to_bytes(4, "little")

    assert len(decode(bytes(sent), 16_000, max_s=60)) == 32_000


def test_sound_comes_in_blocks_of_the_size_that_was_asked_for() -> None:
    parts = list(blocks(recording("mp3", "libmp3lame", 44_100), 16_000, max_s=60, size=10_000))

    assert [len(part) for part in parts[:-1]] == [10_000] * (len(parts) - 1)
    assert 0 < len(parts[-1]) <= 10_000
    whole = decode(recording("mp3", "libmp3lame", 44_100), 16_000, max_s=60)
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_first_sound_is_there_before_the_rest_is_decoded() -> None:
    long = encoded("mp3", np.tile(tone(10, 24_000), 30), 24_000)

    first = next(blocks(long, 16_000, max_s=3_600, size=16_000))

    assert len(first) == 16_000


@pytest.mark.parametrize("scheme", ["", "file:"])
@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{name}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{name}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ],
    ids=["m3u8", "concat", "sdp"],
)
def test_a_playlist_opens_nothing(playlist: str, scheme: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(recording("mpegts", "aac"))

    with pytest.raises(InvalidAudio):
        decode(playlist.format(name=f"{scheme}{secret}").encode(), 16_000, max_s=60)


def test_a_recording_beyond_the_limit_is_refused() -> None:
    with pytest.raises(InvalidAudio, match=r"too long: up to 0\.025 min"):
        decode(recording("wav", "pcm_s16le"), 16_000, max_s=1.5)


def test_a_small_file_of_many_hours_is_refused_before_any_of_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(16_000 * 300, dtype=np.int16), 16_000, format="FLAC")
    monkeypatch.setattr(av, "AudioResampler", None)  # nothing comes so far

    with pytest.raises(InvalidAudio, match="too long"):
        decode(silence.getvalue(), 16_000, max_s=10)


def test_a_file_that_lies_about_its_length_is_given_up_as_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(16_000 * 300, dtype=np.int16), 16_000, format="FLAC")
    monkeypatch.setattr(audio, "_length_s", lambda _: 1.0)
    heard = 0

    def all_of_it() -> None:
        nonlocal heard
        for samples in blocks(silence.getvalue(), 16_000, max_s=10, size=16_000):
            heard += len(samples)

    with pytest.raises(InvalidAudio, match="too long"):
        all_of_it()
    assert heard <= 16_000 * 10


def test_a_header_with_an_absurd_rate_does_not_blow_up() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(1)
        out.writeframes(bytes(10_000))

    with pytest.raises(InvalidAudio):
        decode(file.getvalue(), 16_000, max_s=3_600)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_either_heard_past_or_refused(data: st.DataObject) -> None:
    sent = bytearray(data.draw(st.sampled_from(DAMAGED)))
    for _ in range(data.draw(st.integers(1, 20))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    del sent[data.draw(st.integers(1, len(sent))) :]

    try:
        samples = decode(bytes(sent), 16_000, max_s=60)
    except InvalidAudio:
        return
    assert np.isfinite(samples).all()
    assert len(samples) <= 60 * 16_000


DAMAGED = [
    recording("wav", "pcm_s16le", 16_000, "mono"),
    recording("mp3", "libmp3lame", 44_100),
    recording("flac", "flac"),
    recording("ogg", "libopus"),
    recording("ipod", "aac"),
    recording("webm", "libopus"),
]


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000])
@pytest.mark.parametrize("encoding", [encoding for encoding in ENCODINGS if encoding != "pcm"])
def test_every_encoding_comes_back_as_long_and_as_loud(encoding: Encoding, rate: int) -> None:
    sound = encoded(encoding, tone(2, rate), rate)

    samples = decode(sound, ENCODED_RATE, max_s=60)

    assert len(samples) == pytest.approx(2 * ENCODED_RATE, abs=0.1 * ENCODED_RATE)
    assert loudness(samples) == pytest.approx(loudness(tone(2, rate)), rel=0.08)


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_pcm_is_16_bits_at_24_khz(rate: int) -> None:
    samples = np.frombuffer(encoded("pcm", tone(2, rate), rate), dtype="<i2") / 32_768

    assert len(samples) == pytest.approx(2 * 24_000, abs=50)
    assert loudness(samples.astype(np.float32)) == pytest.approx(loudness(tone(2, rate)), rel=0.01)


@pytest.mark.parametrize("encoding", ["mp3", "opus", "wav"])
def test_another_library_reads_what_is_written(encoding: Encoding) -> None:
    with soundfile.SoundFile(io.BytesIO(encoded(encoding, tone(2, 24_000), 24_000))) as file:
        samples = file.read(dtype="float32")
        assert file.samplerate == 24_000

    assert len(samples) == pytest.approx(48_000, abs=2_400)
    assert loudness(samples) == pytest.approx(loudness(tone(2, 24_000)), rel=0.08)


def test_wav_of_unknown_length_is_read_by_the_standard_library() -> None:
    with wave.open(io.BytesIO(encoded("wav", tone(2, 24_000), 24_000))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert len(file.readframes(file.getnframes())) == 2 * 48_000


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_sound_leaves_as_it_comes(encoding: Encoding) -> None:
    encoder = Encoder(encoding, 24_000)

    first, second = encoder.encode(tone(1, 24_000)), encoder.encode(tone(1, 24_000))

    assert len(first) > 1_000
    assert len(second) > 1_000


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_file_without_sound_can_be_finished(encoding: Encoding) -> None:
    encoder = Encoder(encoding, 24_000)

    assert encoder.encode(tone(0, 24_000)) + encoder.finish() is not None


def test_sound_beyond_the_scale_is_clipped_not_wrapped() -> None:
    samples = np.frombuffer(encoded("pcm", tone(1, 24_000, 3.0), 24_000), dtype="<i2")

    assert samples[5:20].min() > 30_000


def test_every_encoding_has_a_content_type() -> None:
    assert set(CONTENT_TYPES) == set(ENCODINGS)


def test_resampling_keeps_length_and_loudness() -> None:
    samples = resample(tone(2, 44_100), 44_100, 16_000)

    assert len(samples) == pytest.approx(32_000, abs=20)
    assert loudness(samples) == pytest.approx(loudness(tone(2, 16_000)), rel=0.01)


def test_resampling_to_the_same_rate_is_free() -> None:
    samples = tone(1, 16_000)

    assert resample(samples, 16_000, 16_000) is samples
