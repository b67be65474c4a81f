"""Beginnings of prompts that were computed before: the system prompt and tools, and the conversation so far.

What attention keeps of tokens lies in blocks, each under a digest of everything up to its end: so conversations that
begin alike share what they share. A model whose layers cannot go back (recurrent states, sliding windows) needs
its state too, which is kept at borders between messages, where prompts part.

It lies in RAM and is bounded; what was not used for longest goes first.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

_IMAGE_BITS = 194
"""To drop of the 256 that tell images apart: 62 will do."""


@dataclass(frozen=True, slots=True)
class Border:
    """tail: of the tokens after the last whole block; state: of all before"""

    tail: Any
    state: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Found:
    """The longest known beginning, in tokens.

    blocks: from the first token on; border: None where any length will do
    """

    length: int
    blocks: Sequence[Any]
    border: Border | None


NOTHING = Found(0, (), None)


class Digests:
    """Of beginnings of a sequence. items: as `providers.prefix` has them, an image's in each place that it takes"""

    def __init__(self, items: Sequence[int]) -> None:
        numbers = [item if item >= 0 else item >> _IMAGE_BITS for item in items]
        self._bytes = np.asarray(numbers, dtype=np.int64).tobytes()

    def at(self, positions: Sequence[int]) -> Iterator[bytes]:
        """positions: ascending"""
        running, done = blake2b(digest_size=16), 0
        for position in positions:
            running.update(self._bytes[8 * done : 8 * position])
            done = position
            yield running.digest()


class KeptBlocks:
    """most_bytes: 0 keeps nothing; BLOCK: tokens of a block"""

    BLOCK = 64

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str, bytes], tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    @property
    def keeps(self) -> bool:
        return self._most_bytes > 0

    def find(self, items: Sequence[int], borders: Collection[int] | None) -> Found:
        """What is known of a prompt, at least its last token left out.

        borders: where a state may have been kept; None: none is needed
        """
        names = list(Digests(items).at(self._ends(items)))
        known = next((number for number, name in enumerate(names) if ("block", name) not in self._kept), len(names))
        if borders is None:
            found = Found(min(known * self.BLOCK, len(items) - 1), self._blocks(names[:known]), None)
            return found if found.length else NOTHING
        reachable = sorted(border for border in borders if 0 < border < min(len(items), (known + 1) * self.BLOCK))
        for position, name in reversed([*zip(reachable, Digests(items).at(reachable), strict=True)]):
            if ("border", name) in self._kept:
                border = self._touched(("border", name))
                return Found(position, self._blocks(names[: position // self.BLOCK]), border)
        return NOTHING

    def keep(self, items: Sequence[int], read: Callable[[int, int], Any]) -> None:
        """Keep the whole blocks of a sequence that are not kept yet. read: what there is of tokens start to end."""
        ends = self._ends(items)
        named = list(zip(ends, Digests(items).at(ends), strict=True))
        for end, name in reversed(named):  # what begins a sequence is the last to go
            if ("block", name) in self._kept:
                self._touched(("block", name))
            else:
                values = read(end - self.BLOCK, end)
                self._put(("block", name), values, values.nbytes)

    def keep_border(self, items: Sequence[int], border: Border) -> None:
        """Keep the state that follows these tokens."""
        size = border.tail.nbytes + sum(tensor.nbytes for tensor in border.state)
        self._put(("border", next(Digests(items).at([len(items)]))), border, size)

    def _ends(self, items: Sequence[int]) -> range:
        """Where whole blocks end."""
        return range(self.BLOCK, len(items) + 1, self.BLOCK)

    def clear(self) -> None:
        self._kept.clear()
        self.bytes = 0

    def _blocks(self, names: Sequence[bytes]) -> list[Any]:
        return [self._touched(("block", name)) for name in reversed(names)][::-1]

    def _touched(self, name: tuple[str, bytes]) -> Any:
        self._kept.move_to_end(name)
        return self._kept[name][0]

    def _put(self, name: tuple[str, bytes], values: Any, size: int) -> None:
        if name in self._kept:
            self.bytes -= self._kept.pop(name)[1]
        self._kept[name] = (values, size)
        self.bytes += size
        while self.bytes > self._most_bytes:
            _, (_, size) = self._kept.popitem(last=False)
            self.bytes -= size
