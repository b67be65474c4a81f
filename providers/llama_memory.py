"""What a llama_context remembers of its sequences, and how a new one begins with what another has computed.

All sequences share one pool of cells, in which a beginning that two of them have in common lies once. Attention reads
over all cells up to the last one in use, whoever they belong to. So a sequence that is over stays in them for its next
turn, but gives way when another one begins: it is copied into RAM, and back when it goes on. What is too large for that
stays until its cells, or its number, are needed.

Keys and values can be cut back to any beginning; the state of a recurrent layer cannot. It is copied into RAM at the
borders of messages, and a beginning can be taken up again where both are there: a sequence, and the state.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from typing import Any

import llama_cpp.llama_cpp as llama

from providers.kept_states import KeptStates
from providers.prefix import WORTH, common, weight

_WHOLE = 0
_PARTIAL = llama.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY

_FEWEST = 4
"""Sequences that fit into the RAM for them, at least: one that is larger would push out all others, and stops those
that are computed for as long as it is copied.
"""

_COPIED = 8
"""Tokens that are copied out of RAM in the time in which one is computed, at least."""


@dataclass(slots=True, eq=False)
class Held:
    """A sequence of the context, from `take` to `release`, and after that as long as there is room.

    number: its id
    items: what is computed of it, as `providers.prefix` writes it; positions: where each begins; end: what follows
    cells: how many it takes, if it shares none
    copy: what lies in RAM in place of its cells; its number is then another's
    """

    number: int
    items: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    end: int = 0
    cells: int = 0
    running: bool = False
    used: int = 0
    copy: Any = None

    def add(self, item: int, *, positions: int = 1, cells: int = 1) -> None:
        """This was computed."""
        self.items.append(item)
        self.positions.append(self.end)
        self.end += positions
        self.cells += cells


class LlamaMemory:
    """sequences: how many there are in cells, running or kept: two more than ever run at one time
    cells: how many the pool has
    recurrent: whether the model has such layers
    kept_bytes: most RAM for sequences that gave way, and for the states of such layers
    """

    def __init__(self, context: Any, *, sequences: int, cells: int, recurrent: bool, kept_bytes: int) -> None:
        self._context = context
        self._memory = llama.llama_get_memory(context)
        self._window = llama.llama_model_n_swa(llama.llama_get_model(context))
        self._cells = cells
        self._recurrent = recurrent
        self._held = [Held(number) for number in range(sequences)]
        state_bytes = kept_bytes // 2 if recurrent else 0
        self._states = KeptStates[Any](state_bytes)
        self._copies = KeptStates[Held](kept_bytes - state_bytes)
        self._most_bytes = (kept_bytes - state_bytes) // _FEWEST
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
        if held is not source:
            self._put_away(held)
        if held is source:
            self._cut(held, length, state)
        elif source is not None and source.copy is None:
            self._share(source, held, length, state)
        elif source is not None:
            self._fetch(source, held, length, state)
        held.used = next(self._clock)
        if source is not None:
            source.used = held.used
        for other in self._over():
            if other is not held and self._keep_copy(other):
                self._forget(other)
        held.running = True
        return held

    def release(self, held: Held) -> None:
        held.running, held.used = False, next(self._clock)

    def keep_state(self, held: Held) -> None:
        """The recurrent layers' state is copied, so that prompts that begin with what was computed can go on here."""
        if held.items not in self._states and (state := self._data(held, _PARTIAL)) is not None:
            self._states.keep(held.items, state, len(state))

    def make_room(self, cells: int | None = None) -> bool:
        """Let the one that is over and was not used for longest give way. False when there is none, or when the cells
        that are asked for are free for certain.
        """
        if cells is not None and sum(held.cells for held in self._held) + cells <= self._cells:
            return False
        over = self._over()
        if not over:
            return False
        self._put_away(min(over, key=lambda held: held.used))
        return True

    def vacate(self) -> None:
        """All cells are as if none had ever been used. Nobody is running."""
        for held in self._over():
            self._put_away(held)
        llama.llama_memory_clear(self._memory, True)

    def clear(self) -> None:
        """Nothing that was computed is to be trusted any more."""
        llama.llama_memory_clear(self._memory, True)
        for held in self._held:
            _empty(held)
        for kept in (self._states, self._copies):
            kept.drop(lambda _: True)

    def _over(self) -> list[Held]:
        return [held for held in self._held if not held.running and held.items]

    def _best(self, prompt: Sequence[int]) -> tuple[Held | None, int, Any]:
        """The sequence with the longest beginning of this prompt, how long it is, and the state that is to be put back
        for it; None: none, or the one that is there.
        """
        known = prompt[:-1]
        there = self._longest(prompt, [(held, common(held.items, known)) for held in self._held if held.items])
        copied = [(held, common(held.items, known)) for held in self._copies]
        copied = [(held, length) for held, length in copied if _COPIED * length >= len(held.items)]
        copy = self._longest(prompt, sorted(copied, key=lambda each: len(each[0].items)))
        return copy if weight(prompt[there[1] : copy[1]]) >= WORTH else there

    def _longest(self, prompt: Sequence[int], shared: Sequence[tuple[Held, int]]) -> tuple[Held | None, int, Any]:
        """shared: how much of the prompt each holds; of those that hold as much, the first is taken"""
        found: list[tuple[Held | None, int, Any]]
        if self._recurrent:
            found = [(held, length, None) for held, length in shared if length == len(held.items)]
            source, most = max(shared, key=lambda each: each[1], default=(None, 0))
            if (kept := self._states.longest(prompt[: most + 1])) is not None:
                found.append((source, *kept))
        else:
            found = [(held, length, None) for held, length in shared if length and self._reaches_back(held, length)]
        return max(found, key=lambda each: each[1], default=(None, 0, None))

    def _reaches_back(self, held: Held, length: int) -> bool:
        """Whether all is there that what follows so many items attends to: where layers have a window, llama.cpp gives
        cells that have left it to others.
        """
        if not self._window or held.copy is not None:
            return True
        end = held.positions[length] if length < len(held.items) else held.end
        return bool(llama.llama_memory_seq_pos_min(self._memory, held.number) <= max(0, end - self._window + 1))

    def _room_for(self, source: Held | None, length: int) -> Held:
        """The source itself, where little else is lost by that; else the one that was not used for longest."""
        if source is not None and source.copy is None and not source.running and _is_most(length, source):
            return source
        over = (held for held in self._held if not held.running and held is not source)
        return min(over, key=lambda held: (bool(held.items), held.used))

    def _cut(self, held: Held, length: int, state: Any) -> None:
        if length == len(held.items):
            return
        position = held.positions[length]
        back = state is None or self._put_back(held, state, _PARTIAL)
        if not back or not llama.llama_memory_seq_rm(self._memory, held.number, position, -1):
            self._forget(held)
            return
        held.cells -= len(held.items) - length  # images take more; too many are counted then, which is safe
        del held.items[length:], held.positions[length:]
        held.end = position

    def _share(self, source: Held, held: Held, length: int, state: Any) -> None:
        end = source.positions[length] if length < len(source.items) else source.end
        llama.llama_memory_seq_cp(self._memory, source.number, held.number, 0, end)
        if state is not None and not self._put_back(held, state, _PARTIAL):
            self._forget(held)
            return
        held.items, held.positions = source.items[:length], source.positions[:length]
        held.end, held.cells = end, source.cells

    def _keep_copy(self, held: Held) -> bool:
        """Copy it into RAM, where it is worth that. False: it cannot be copied, and is lost with its cells."""
        if weight(held.items) < WORTH:
            return True
        if self._window:  # of layers that have one, llama.cpp copies only what a next token would see
            begun = llama.llama_memory_seq_pos_min(self._memory, held.number)
            if begun > 0 or held.end > self._window:
                return False
        data = self._data(held, _WHOLE, self._most_bytes)
        if data is None:
            return False
        self._copies.keep(held.items, replace(held, copy=data), len(data))
        return True

    def _fetch(self, source: Held, held: Held, length: int, state: Any) -> None:
        """Undo `_keep_copy`, up to this length. The copy stays where that is little of it."""
        while self.make_room(source.cells):
            pass
        if not self._put_back(held, source.copy, _WHOLE):
            self._forget(held)
            return
        held.items, held.positions = list(source.items), list(source.positions)
        held.end, held.cells = source.end, source.cells
        if _is_most(length, source):
            self._copies.drop(lambda items: items == source.items)
        else:
            self._copies.keep(source.items, source, len(source.copy))  # as the one used last
        self._cut(held, length, state)

    def _put_away(self, held: Held) -> None:
        if held.items:
            self._keep_copy(held)
        self._forget(held)

    def _data(self, held: Held, flags: int, most_bytes: float = inf) -> Any:
        """None: it is more than that, or cannot be had."""
        size = llama.llama_state_seq_get_size_ext(self._context, held.number, flags)
        if size > most_bytes:
            return None
        (self._copies if flags == _WHOLE else self._states).make_room(size)
        try:
            data = (ctypes.c_uint8 * size)()
        except MemoryError:  # of this machine's RAM, which is no fault of the device
            return None
        read = llama.llama_state_seq_get_data_ext(self._context, data, size, held.number, flags)
        return data if read == size else None

    def _put_back(self, held: Held, data: Any, flags: int) -> bool:
        return bool(llama.llama_state_seq_set_data_ext(self._context, data, len(data), held.number, flags))

    def _forget(self, held: Held) -> None:
        llama.llama_memory_seq_rm(self._memory, held.number, -1, -1)
        _empty(held)
        if self._recurrent:
            others = [other.items for other in (*self._held, *self._copies)]
            self._states.drop(lambda prefix: not any(items[: len(prefix)] == prefix for items in others))


def _is_most(length: int, source: Held) -> bool:
    return 4 * length >= 3 * len(source.items)


def _empty(held: Held) -> None:
    held.items, held.positions = [], []
    held.end = held.cells = 0
