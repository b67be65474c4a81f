"""Cuts a recording into windows: stretches with speech in them, short enough for a model to hear at one time.

What is not in a window is never shown to a model, which would make something up. A pause of a breath stays inside one,
because sentences go on after it; only long ones end it, so that a model that pads each window to 30 s gets few.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from providers.runtime import Samples
from providers.vad import FRAME, SAMPLE_RATE, Probabilities, VoiceActivity

_SPEAKS = 0.5
_SPEAKS_ON = 0.35
"""Speech begins above the one and ends below the other: Silero's own values."""


def _frames(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / FRAME)


LONGEST = _frames(30.0)
_CUT_FROM = _frames(25.0)
"""Speech that goes on is cut between these two, in frames, where it is quietest."""

_PAUSE = _frames(3.0)
"""A longer one ends a window."""

_MARGIN = _frames(0.3)
"""What a window holds before its first word and after its last, where there is so much."""

_SHORTEST = _frames(0.25)
"""Less is no word, but a click or a note of music: Silero's own value, which "Up." just reaches."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is shown to a model at one time: at most 30 s at 16 kHz.

    start_s: where it begins in the recording
    speech_start_s, speech_end_s: in the recording, from the first word to the last
    """

    start_s: float
    samples: Samples
    speech_start_s: float
    speech_end_s: float


def windows(sound: Iterable[Samples]) -> Iterator[list[Window]]:
    """For each piece of a recording the windows that end in it; it is often none. All take little memory and time.

    sound: at 16 kHz, each piece but the last of whole frames
    """
    activity, cutter = VoiceActivity(), Cutter()
    for piece in sound:
        whole = np.pad(piece, (0, -len(piece) % FRAME))
        yield cutter.push(whole, activity.hear(whole))
    yield cutter.finish()


class Cutter:
    """Takes frames and how likely each is speech, gives windows. Holds what no window was made of yet: 33 s and what
    one push brings.
    """

    def __init__(self) -> None:
        self._sound: Samples = np.zeros((0, FRAME), np.float32)
        self._probability: Probabilities = np.zeros(0, np.float32)
        self._start = 0  # the first frame held
        self._speaking = False  # at the end of what came before it

    def push(self, samples: Samples, probability: Probabilities) -> list[Window]:
        """samples: shape (frames * FRAME,); probability: shape (frames,)"""
        self._sound = np.concatenate([self._sound, samples.reshape(-1, FRAME)])
        self._probability = np.concatenate([self._probability, probability])
        return list(self._windows(ended=False))

    def finish(self) -> list[Window]:
        """The recording is over."""
        return list(self._windows(ended=True))

    def _windows(self, *, ended: bool) -> Iterator[Window]:
        while runs := speech_runs(self._probability, speaking=self._speaking, ended=ended):
            held = len(self._probability)
            first = runs[0][0]
            begin = max(first - _MARGIN, 0)
            end = _end(runs, held, ended=ended)
            if end is not None and (stop := min(end + _MARGIN, held)) - begin <= LONGEST:
                yield self._take(begin, stop, first, end)
            elif end is not None or held - begin > LONGEST + _PAUSE:  # by then no end may turn out to be near
                cut = begin + self._quietest(begin, runs)
                last = max(min(run_end, cut) for run_start, run_end in runs if run_start < cut)
                yield self._take(begin, cut, first, last)
            else:
                self._drop(begin, speaking=self._speaking and not begin)
                return
        self._drop(max(len(self._probability) - _MARGIN, 0), speaking=False)

    def _quietest(self, begin: int, runs: list[tuple[int, int]]) -> int:
        """How far after `begin` to cut: in the middle of the longest pause, or where there is least sound."""
        from_, to = begin + _CUT_FROM, begin + LONGEST
        edges = [from_, *(min(max(edge, from_), to) for run in runs for edge in run), to]
        pauses = [(stop - start, (start + stop) // 2) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
        longest, middle = max(pauses)
        if longest > 0:
            return middle - begin
        power = np.square(self._sound[from_:to]).mean(axis=1)
        return _CUT_FROM + int(np.convolve(power, np.ones(5), mode="same").argmin())

    def _take(self, begin: int, end: int, first: int, last: int) -> Window:
        def second(frame: int) -> float:
            return (self._start + frame) * FRAME / SAMPLE_RATE

        window = Window(second(begin), self._sound[begin:end].reshape(-1).copy(), second(first), second(last))
        self._drop(end, speaking=last >= end)
        return window

    def _drop(self, frames: int, *, speaking: bool) -> None:
        self._speaking = speaking
        if frames:
            self._sound = self._sound[frames:].copy()
            self._probability = self._probability[frames:]
            self._start += frames


def speech_runs(probability: Probabilities, *, speaking: bool, ended: bool) -> list[tuple[int, int]]:
    """From where to where somebody speaks, in frames, the end not included.

    speaking: whether somebody did just before
    ended: nothing follows; otherwise a run up to the end counts, however short it is so far
    """
    runs: list[tuple[int, int]] = []
    marks = np.where(probability >= _SPEAKS, 1, np.where(probability < _SPEAKS_ON, -1, 0))
    marks = np.concatenate([[1 if speaking else -1], marks])
    decided = np.maximum.accumulate(np.where(marks != 0, np.arange(len(marks)), 0))
    speech: npt.NDArray[np.bool_] = marks[decided][1:] > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], speech, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2).tolist():
        if stop - start >= _SHORTEST or (stop == len(probability) and not ended):
            runs.append((start, stop))
    return runs


def _end(runs: list[tuple[int, int]], held: int, *, ended: bool) -> int | None:
    """Where the speech ends that the first of these runs begins, or None where that is not known yet."""
    following = [*(start for start, _ in runs[1:]), held + _PAUSE + 1 if ended else held]
    for (_, stop), next_start in zip(runs, following, strict=True):
        if next_start - stop > _PAUSE:
            return stop
    return None
