"""Many answers at once from one model: requests join and leave between two steps of its computation.

An `Engine` computes, an `EngineLoop` decides what, and hands out what was written. The loop is one job on the model's
worker: it begins with the first request, ends when none is left, and so is never in the way of a load or an unload.

What goes wrong with one sequence ends that one. What goes wrong with a step, or with the device, ends all of them:
nobody knows what their states are worth then.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Generic, Protocol, TypeVar

from providers.channel import Channel
from providers.fault import fault_of
from providers.pace import Pace, interval_s
from providers.runtime import Piece
from providers.schedule import Budget, shares
from providers.worker import Worker, meant

_READ_AHEAD = 64
"""Pieces that a sequence may be ahead of its reader; then it pauses, and the others go on."""


class Computed(Protocol):
    """A sequence, as its engine knows it."""

    @property
    def left(self) -> int | None:
        """Tokens of its prompt that are not computed yet; 0: it is writing its answer; None: it waits for another one,
        whose prompt begins as its own does.
        """


R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)
S = TypeVar("S", bound=Computed)


class Engine(Protocol[R_contra, S]):
    """A loaded model that computes several sequences at once. All of this but `preparation` is called on one thread.

    step_tokens: most tokens of prompts in one step
    """

    step_tokens: int

    def preparation(self, request: R_contra) -> Callable[[], object] | None:
        """What a request takes that those after it will find done, if anything; it may be called beside steps."""

    def add(self, request: R_contra) -> S:
        """Take a sequence in, without computing anything yet. Raises what is wrong with the request."""

    def step(self, shares: Sequence[tuple[S, int]]) -> Mapping[S, Piece | Exception]:
        """Compute so many tokens of each: of its prompt, or the next one of its answer.

        What they wrote, where they wrote something. A piece with a finish reason, or an exception, ends a sequence.
        """

    def remove(self, sequence: S) -> None:
        """Let go of one that was added, wherever it stands. What this raises ends all others, like a step."""


class _Answer(Generic[R, S]):
    """One request, from when it joins until it has left.

    sequence: what the engine made of it, once there was room
    sent, read: its pieces so far, counted by the worker's thread and by the event loop's, each its own
    """

    def __init__(self, request: R) -> None:
        self.request = request
        self.sequence: S | None = None
        self.sent = self.read = 0
        self.unwanted = False
        self.pace = Pace()
        self.pieces: Channel[Piece | _End] = Channel()
        self.gone = asyncio.Event()

    @property
    def unread(self) -> int:
        return self.sent - self.read


class _End:
    """After the last piece; error is what ended the answer, if anything did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class EngineLoop(Generic[R, S]):
    """Runs an engine.

    slots: sequences that the engine holds at one time; whoever comes then waits, first come first served
    """

    def __init__(self, engine: Engine[R, S], worker: Worker, *, slots: int) -> None:
        self._engine = engine
        self._worker = worker
        self._slots = slots
        self._budget = Budget(engine.step_tokens)
        self._changed = threading.Condition()
        """Guards the next three."""
        self._waiting: deque[_Answer[R, S]] = deque()
        self._running: list[_Answer[R, S]] = []
        self._job: asyncio.Task[None] | None = None

    async def stream(self, request: R) -> AsyncGenerator[Piece, None]:
        """The answer to a request. Closing this takes its sequence out of the engine before the close returns."""
        preparation = self._engine.preparation(request)
        if preparation is not None:
            await _beside(preparation)
        answer: _Answer[R, S] = _Answer(request)
        loop = asyncio.get_running_loop()
        with self._changed:
            self._waiting.append(answer)
            self._changed.notify()
            if self._job is None:
                self._job = asyncio.create_task(self._worker.run(lambda _: self._serve(loop)))
        try:
            while not isinstance(item := await answer.pieces.get(), _End):
                answer.read += 1
                if answer.unread == _READ_AHEAD - 1:
                    with self._changed:
                        self._changed.notify()
                yield item
            if item.error is not None:
                raise item.error
        finally:
            with self._changed:
                answer.unwanted = True
                self._changed.notify()
            await answer.gone.wait()

    # On the worker's thread

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Steps, for as long as there is anybody to compute for."""
        hand_out = _HandOut(loop)
        try:
            while self._turn(hand_out):
                hand_out.send()
        except BaseException as raised:  # whatever ends a step belongs to those who read
            with self._changed:
                ended, self._job = [*self._running, *self._waiting], None
                self._running.clear()
                self._waiting.clear()
            error = meant(raised)
            for answer in ended:
                with suppress(Exception):
                    self._end(answer, hand_out, error)
        hand_out.send()

    def _turn(self, hand_out: "_HandOut") -> bool:
        """One step; False when nobody is left."""
        joining, leaving = self._joining_and_leaving()
        if joining is None:
            return False
        with ExitStack() as ends:
            for answer in leaving:
                ends.callback(self._end, answer, hand_out)
        for answer in joining:
            try:
                answer.sequence = self._engine.add(answer.request)
            except Exception as error:
                self._leave(answer, hand_out, error)
        self._step(hand_out)
        return True

    def _joining_and_leaving(self) -> tuple[list[_Answer[R, S]] | None, list[_Answer[R, S]]]:
        """Who was admitted just now, and who left. The first is None once nobody is there at all: the job is over."""
        with self._changed:
            while True:
                leaving = [answer for answer in (*self._running, *self._waiting) if answer.unwanted]
                self._running = [answer for answer in self._running if not answer.unwanted]
                self._waiting = deque(answer for answer in self._waiting if not answer.unwanted)
                room = min(self._slots - len(self._running), len(self._waiting))
                joining = [self._waiting.popleft() for _ in range(room)]
                self._running += joining
                if joining or leaving or any(answer.unread < _READ_AHEAD for answer in self._running):
                    return joining, leaving
                if not self._running:
                    self._job = None
                    return None, []
                self._changed.wait()

    def _step(self, hand_out: "_HandOut") -> None:
        ready = [
            (answer, sequence, left)
            for answer in self._running
            if (sequence := answer.sequence) is not None
            and answer.unread < _READ_AHEAD
            and (left := sequence.left) is not None
        ]
        writing = sum(left == 0 for _, _, left in ready)
        budget = self._budget.tokens(answers=writing, prompts=len(ready) - writing)
        taken = shares([left for _, _, left in ready], budget)
        batch = [(sequence, tokens) for (_, sequence, _), tokens in zip(ready, taken, strict=True) if tokens]
        if not batch:
            return
        began_s = time.monotonic()
        written = self._engine.step(batch)
        self._budget.learn(sum(tokens for _, tokens in batch) - writing, time.monotonic() - began_s)
        apart_s = interval_s(len(ready))
        for answer, sequence, _ in ready:
            result = written.get(sequence)
            if isinstance(result, Exception):
                self._leave(answer, hand_out, result)
            elif result is not None and (piece := answer.pace.feed(result, apart_s)) is not None:
                answer.sent += 1
                hand_out.add(partial(answer.pieces.put_nowait, piece))
                if piece.finish_reason is not None:
                    self._leave(answer, hand_out)

    def _leave(self, answer: _Answer[R, S], hand_out: "_HandOut", error: Exception | None = None) -> None:
        if error is not None and fault_of(error) is not None:
            raise error
        with self._changed:
            self._running.remove(answer)
        self._end(answer, hand_out, error)

    def _end(self, answer: _Answer[R, S], hand_out: "_HandOut", error: BaseException | None = None) -> None:
        try:
            if answer.sequence is not None:
                self._engine.remove(answer.sequence)
        finally:  # whoever waits must not wait for ever
            hand_out.add(partial(answer.pieces.put_nowait, _End(error)))
            hand_out.add(answer.gone.set)


class _HandOut:
    """Wakes the event loop once for all that a step has written."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: list[Callable[[], None]] = []

    def add(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def send(self) -> None:
        if self._calls:
            calls, self._calls = self._calls, []
            self._loop.call_soon_threadsafe(_call_all, calls)


async def _beside(work: Callable[[], object]) -> None:
    """On another thread, and to its end, whoever still wants it: what it reads must not be unloaded meanwhile."""
    job = asyncio.create_task(asyncio.to_thread(work))
    try:
        await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        job.exception()  # which nobody is left to hear of
        raise


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
