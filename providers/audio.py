"""Sound files to samples and back, in memory.

Decoding takes whatever container and codec the caller sent, by content and never by name. It is closed in on the
bytes at hand: only containers that carry their own sound are recognised, so that a playlist cannot make this machine
open another file or address, and decoding stops at a given duration, so that a small file cannot become a large one.

Both directions are plain blocking calls: a caller on the event loop runs them in a thread.
"""

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np

from llmux.errors import InvalidAudio
from providers.runtime import Samples

Encoding = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]

CONTENT_TYPES: Mapping[Encoding, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
"""What an answer in each encoding says it is. Opus comes in an Ogg container, whose type is the true one."""

ENCODED_RATE = 24_000
"""Sample rate of everything that an Encoder writes, in Hz: bare PCM has no header to say another."""

_CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,matroska,mov,mp3,mpeg,mpegts,oga,ogg,tta,voc,w64,wav,wv"
)
_SOUND_CODECS = "aac,aac_fixed,aac_latm,ac3,alac,ape,dca,eac3,flac,mp1,mp2,mp3,mp3float,opus,libopus,tta,vorbis,wavpack"
_CLOSED_IN = {
    "format_whitelist": _CONTAINERS,
    "protocol_whitelist": "none",
    "codec_whitelist": _SOUND_CODECS,  # while probing: a video track is never decoded, not even its first frame
}
_LOWEST_RATE, _HIGHEST_RATE = 1_000, 1_000_000
"""A header that claims fewer samples a second, or more, is broken: resampling would blow it up beyond measure, or take
seconds to prepare.
"""

_STATING = frozenset({"aiff", "caf", "flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"})
"""Containers that say how long they are. Others leave it to a guess of FFmpeg's, from the bit rate or what is there."""

_UNKNOWN_SIZE = 0x7FFF_0000
"""From here on the size in a WAV's header is one of the marks for sound whose end was not known yet."""

_MISSING = 0.1
"""So much of a recording may be missing before it is refused rather than heard without its end."""

_NOT_AUDIO = "the file is not a sound recording, or too damaged to read"


def decode(data: bytes, sample_rate: int, *, max_s: float) -> Samples:
    """All of a recording's sound, as `blocks` gives it."""
    return np.concatenate(list(blocks(data, sample_rate, max_s=max_s, size=sample_rate)))


def blocks(data: bytes, sample_rate: int, *, max_s: float, size: int) -> Iterator[Samples]:
    """A recording's sound, mixed down to one channel and resampled to `sample_rate` Hz, as it is decoded.

    size: how many samples each item holds, but for the last

    Damaged stretches are left out; what can be heard counts. Raises InvalidAudio where nothing can, where the file says
    that it is longer than it is, and where the recording is longer than `max_s` seconds: what the file tells without
    being decoded before the first item, and all the rest as it is found.
    """
    if not data:
        raise InvalidAudio("the file is empty", param="file")
    too_long = InvalidAudio(f"the recording is too long: up to {max_s / 60:g} min are taken", param="file")
    try:
        if _length_s(data) > max_s:
            raise too_long
        left = int(max_s * sample_rate)
        heard = False
        with _opened(data) as container:
            for samples in _cut(_resampled(_frames(container), sample_rate), size):
                left -= len(samples)
                if left < 0:
                    raise too_long
                heard = True
                yield np.clip(np.nan_to_num(samples), -1.0, 1.0)
        if not heard:
            raise InvalidAudio(_NOT_AUDIO, param="file")
    except (av.FFmpegError, ValueError, NotImplementedError):
        raise InvalidAudio(_NOT_AUDIO, param="file") from None


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
    """The same sound at another sample rate, in Hz."""
    if rate == wanted:
        return samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=wanted)
    parts = [*resampler.resample(_frame(samples, rate)), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])


def _opened(data: bytes) -> Any:
    return av.open(io.BytesIO(data), metadata_errors="ignore", container_options=_CLOSED_IN)


def _length_s(data: bytes) -> float:
    """How long the packets of the first sound track say that they last; 0 where they do not say.

    Raises InvalidAudio where there is no sound track, or where much of one is missing.
    """
    with _opened(data) as container:
        if not container.streams.audio:
            raise InvalidAudio("the file has no sound track", param="file")
        track = container.streams.audio[0]
        length_s = float(sum(packet.duration or 0 for packet in _packets(container)) * (track.time_base or 0))
        there = length_s / stated_s if (stated_s := _stated_s(container)) and length_s else 1.0
    if min(there, _share_of_riff(data)) < 1 - _MISSING:
        raise InvalidAudio("the file is cut off: it says that it is longer than it is", param="file")
    return length_s


def _stated_s(container: Any) -> float:
    """How long the first sound track says that it is; 0 where it does not say."""
    if container.format.name not in _STATING:
        return 0.0
    track = container.streams.audio[0]
    if track.duration is not None:
        return float(track.duration * track.time_base)
    alone = len(container.streams) == 1 and container.duration is not None
    return float(container.duration / av.time_base) if alone else 0.0


def _share_of_riff(data: bytes) -> float:
    """How much of a WAV file is there; FFmpeg corrects its header in silence. 1 where none says."""
    stated = int.from_bytes(data[4:8], "little") if data[:4] == b"RIFF" else 0
    return len(data) / stated if 0 < stated < _UNKNOWN_SIZE else 1.0


def _packets(container: Any) -> Iterator[Any]:
    """Every packet of the first sound track that can be read."""
    packets = container.demux(container.streams.audio[0])
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.FFmpegError, IndexError):  # IndexError: a track that begins later, unknown to PyAV
            return


def _frames(container: Any) -> Iterator[Any]:
    """Every frame of the first sound track that can be decoded."""
    for packet in _packets(container):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue


def _cut(parts: Iterator[Samples], size: int) -> Iterator[Samples]:
    """The same samples, so many at a time."""
    waiting: list[Samples] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        if count >= size:
            joined = np.concatenate(waiting)
            whole = count - count % size
            yield from np.split(joined[:whole], whole // size)
            waiting, count = [joined[whole:].copy()], count - whole
    if count:
        yield np.concatenate(waiting)


def _resampled(frames: Iterator[Any], sample_rate: int) -> Iterator[Samples]:
    graph: Any = None
    kind: tuple[int, str, str] | None = None
    for frame in frames:
        if not _LOWEST_RATE <= frame.sample_rate <= _HIGHEST_RATE:
            raise ValueError("sample rate")
        if (found := (frame.sample_rate, frame.format.name, frame.layout.name)) != kind:  # some change half-way
            yield from _flushed(graph)
            kind, graph = found, _mixing(frame, sample_rate)
        graph.push(frame)
        yield from pulled(graph)
    yield from _flushed(graph)


def _flushed(graph: Any) -> Iterator[Samples]:
    if graph is not None:
        graph.push(None)
        yield from pulled(graph)


def pulled(graph: Any) -> Iterator[Samples]:
    """What a filter graph has made so far of packed mono sound."""
    while True:
        try:
            yield graph.pull().to_ndarray()[0]
        except (av.BlockingIOError, av.EOFError):
            return


def _mixing(frame: Any, sample_rate: int) -> Any:
    """Takes frames like this one, gives the mean of their channels: unlike a mix by loudness, it cannot clip.

    FFmpeg does all of it. In the hands of PyAV 18.1 a frame has more planes than channels from eight channels on, and
    what is read of those that are not there ends the process.
    """
    channels = frame.layout.nb_channels
    mean = "+".join(f"{1 / channels:.9f}*c{channel}" for channel in range(channels))
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_abuffer(
            format=frame.format, sample_rate=frame.sample_rate, layout=frame.layout, time_base=frame.time_base
        ),
        graph.add("aformat", "sample_fmts=fltp"),
        graph.add("pan", f"mono|c0={mean}"),
        graph.add("aformat", f"sample_fmts=flt:sample_rates={sample_rate}"),
        graph.add("abuffersink"),
    ).configure()
    return graph


def _frame(samples: Samples, rate: int) -> Any:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="flt", layout="mono")
    frame.sample_rate = rate
    return frame


_WRITTEN_AS: Mapping[Encoding, tuple[str, str, int | None]] = {
    "mp3": ("mp3", "libmp3lame", 96_000),
    "opus": ("ogg", "libopus", 48_000),
    "aac": ("adts", "aac", 96_000),
    "flac": ("flac", "flac", None),
    "wav": ("wav", "pcm_s16le", None),
    "pcm": ("s16le", "pcm_s16le", None),
}
"""Container, codec, bits per second."""

_AS_IT_COMES = {
    "flush_packets": "1",
    "fflags": "+bitexact",  # no name and version of the writing library in every answer
    "write_xing": "0",  # the MP3 index would have to be written last, at the beginning
    "id3v2_version": "0",
    "page_duration": "100000",  # microseconds of sound that an Ogg page waits for
}


class Encoder:
    """Writes one sound file while its sound is still being made.

    Nothing is ever corrected at the beginning, so WAV says 0xFFFFFFFF for its sizes, as OpenAI's does, and FLAC says
    0 samples: both mean "until the end".

    compresses: whether that is work, up to 10 ms for a second of sound; else it takes 0.2 ms at most
    """

    def __init__(self, encoding: Encoding, sample_rate: int) -> None:
        container, codec, bit_rate = _WRITTEN_AS[encoding]
        self.compresses = not codec.startswith("pcm_")
        self._rate = sample_rate
        self._written = 0
        self._sink = _Sink()
        self._container = av.open(self._sink, "w", format=container, container_options=_AS_IT_COMES)
        self._track = self._container.add_stream(codec, rate=ENCODED_RATE, layout="mono")
        if bit_rate is not None:
            self._track.bit_rate = bit_rate
        self._container.start_encoding()

    def encode(self, samples: Samples) -> bytes:
        """What can be sent once these samples are known; it may be nothing yet."""
        if len(samples):
            frame = _frame(np.clip(samples, -1.0, 1.0), self._rate)
            frame.pts, frame.time_base = self._written, Fraction(1, self._rate)
            self._written += len(samples)
            self._container.mux(self._track.encode(frame))
        return self._sink.take()

    def finish(self) -> bytes:
        """The rest of the file."""
        self._container.mux(self._track.encode(None))
        self._container.close()
        return self._sink.take()


class _Sink:
    """A file that is only ever appended to."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> int:
        self._bytes += data
        return len(data)

    def take(self) -> bytes:
        taken, self._bytes = bytes(self._bytes), bytearray()
        return taken
