"""What a llama_context remembers of its sequences, and how a new one begins with what another has computed.

All sequences share one pool of cells, in which a beginning that two of them have in common lies once. A sequence that
is over stays until its cells, or its number, are needed. Keys and values can be cut back to any beginning; the state of
a recurrent layer cannot. It is copied into RAM at the borders of messages, and a beginning can be taken up again where
both are there: cells of some sequence, and the state.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import llama_cpp.llama_cpp as llama

from providers.kept_states import KeptStates
from providers.prefix import common

_PARTIAL = llama.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY


@dataclass(slots=True, eq=False)
class Held:
    """A sequence of the context, from `take` to `release`, and after that as long as there is room.

    number: its id
    items: what is computed of it, as `providers.prefix` writes it; positions: where each begins; end: what follows
    cells: how many it takes, if it shares none
    """

    number: int
    items: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    end: int = 0
    cells: int = 0
    running: bool = False
    used: int = 0

    def add(self, item: int, *, positions: int = 1, cells: int = 1) -> None:
        """This was computed."""
        self.items.append(item)
        self.positions.append(self.end)
        self.end += positions
        self.cells += cells


class LlamaMemory:
    """sequences: how many there are, running or kept: two more than ever run at one time
    cells: how many the pool has
    recurrent: whether the model has such layers; kept_bytes: most RAM for their states
    """

    def __init__(self, context: Any, *, sequences: int, cells: int, recurrent: bool, kept_bytes: int) -> None:
        self._context = context
        self._memory = llama.llama_get_memory(context)
        self._cells = cells
        self._recurrent = recurrent
        self._held = [Held(number) for number in range(sequences)]
        self._states = KeptStates[Any](kept_bytes)
        self._clock = count(1)

    def running(self) -> Iterator[Held]:
        return (held for held in self._held if held.running)

    def reusable(self, prompt: Sequence[int]) -> int:
        """How many items of this prompt `take` would not have to compute."""
        return self._best(prompt)[1]

    def take(self, prompt: Sequence[int], *, reuse: bool) -> Held:
        """A sequence for this prompt. What it holds already need not be computed; the last item is never among it."""
        source, length, state = self._best(prompt) if reuse else (None, 0, None)
        held = self._room_for(source, length)
        if source is None:
            self._forget(held)
        elif held is source:
            self._cut(held, length, state)
        else:
            self._forget(held)
            self._copy(source, held, length, state)
        held.running, held.used = True, next(self._clock)
        if source is not None:
            source.used = held.used
        return held

    def release(self, held: Held) -> None:
        held.running, held.used = False, next(self._clock)

    def keep_state(self, held: Held) -> None:
        """The recurrent layers' state is copied, so that prompts that begin with what was computed can go on here."""
        if held.items in self._states:
            return
        size = llama.llama_state_seq_get_size_ext(self._context, held.number, _PARTIAL)
        state = (ctypes.c_uint8 * size)()
        if llama.llama_state_seq_get_data_ext(self._context, state, size, held.number, _PARTIAL) == size:
            self._states.keep(held.items, state, size)

    def make_room(self, cells: int | None = None) -> bool:
        """Let the one that is over and was not used for longest go. False when there is none, or when the cells
        that are asked for are free for certain.
        """
        if cells is not None and sum(held.cells for held in self._held) + cells <= self._cells:
            return False
        over = [held for held in self._held if not held.running and held.items]
        if not over:
            return False
        self._forget(min(over, key=lambda held: held.used))
        return True

    def clear(self) -> None:
        """Nothing that was computed is to be trusted any more."""
        llama.llama_memory_clear(self._memory, True)
        for held in self._held:
            _empty(held)
        self._states.drop(lambda _: True)

    def _best(self, prompt: Sequence[int]) -> tuple[Held | None, int, Any]:
        """The sequence with the longest beginning of this prompt, how long it is, and the state that is to be put back
        for it; None: none, or the one that is there.
        """
        found: list[tuple[Held | None, int, Any]]
        shared = [(held, common(held.items, prompt[:-1])) for held in self._held if held.items]
        if self._recurrent:
            found = [(held, length, None) for held, length in shared if length == len(held.items)]
            source, most = max(shared, key=lambda each: each[1], default=(None, 0))
            if (kept := self._states.longest(prompt[: most + 1])) is not None:
                found.append((source, *kept))
        else:
            found = [(held, length, None) for held, length in shared if length]
        return max(found, key=lambda each: each[1], default=(None, 0, None))

    def _room_for(self, source: Held | None, length: int) -> Held:
        """The source itself, where little else is lost by that; else the one that was not used for longest."""
        if source is not None and not source.running and 2 * length >= len(source.items):
            return source
        over = (held for held in self._held if not held.running and held is not source)
        return min(over, key=lambda held: (bool(held.items), held.used))

    def _cut(self, held: Held, length: int, state: Any) -> None:
        if length == len(held.items):
            return
        position = held.positions[length]
        back = state is None or self._put_back(held, state)
        if not back or not llama.llama_memory_seq_rm(self._memory, held.number, position, -1):
            self._forget(held)
            return
        held.cells -= len(held.items) - length  # images take more; too many are counted then, which is safe
        del held.items[length:], held.positions[length:]
        held.end = position

    def _copy(self, source: Held, held: Held, length: int, state: Any) -> None:
        end = source.positions[length] if length < len(source.items) else source.end
        llama.llama_memory_seq_cp(self._memory, source.number, held.number, 0, end)
        if state is not None and not self._put_back(held, state):
            self._forget(held)
            return
        held.items, held.positions = source.items[:length], source.positions[:length]
        held.end, held.cells = end, source.cells

    def _put_back(self, held: Held, state: Any) -> bool:
        return bool(llama.llama_state_seq_set_data_ext(self._context, state, len(state), held.number, _PARTIAL))

    def _forget(self, held: Held) -> None:
        llama.llama_memory_seq_rm(self._memory, held.number, -1, -1)
        _empty(held)
        if self._recurrent:
            others = [other.items for other in self._held]
            self._states.drop(lambda prefix: not any(items[: len(prefix)] == prefix for items in others))


def _empty(held: Held) -> None:
    held.items, held.positions = [], []
    held.end = held.cells = 0
