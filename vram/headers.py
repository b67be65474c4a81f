"""What weight files say of themselves at their beginning: safetensors and GGUF. The weights are never read.

The gguf package could do it too, but its reader makes numpy arrays of every word of the vocabulary first.
"""

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

_LONGEST_HEADER = 100 * 2**20
"""What safetensors itself takes at most."""

_ALIGNMENT = 32
"""GGUF's own, for a file that does not say."""

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class Tensor(NamedTuple):
    """dtype: as the file spells it, such as BF16; bytes: in the file."""

    dtype: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Gguf:
    """metadata: numbers, strings and lists of numbers, without the vocabulary; tensors: bytes of each in the file."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, int]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name. Raises OSError, and ValueError when it is no safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            raise ValueError("not a safetensors file")
        header = json.loads(file.read(length))
    try:
        return {
            name: Tensor(entry["dtype"], entry["data_offsets"][1] - entry["data_offsets"][0])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ValueError("not a safetensors header") from error


def read_gguf(path: Path) -> Gguf:
    """The metadata and tensors. Raises OSError, and ValueError when it is no GGUF file or an incomplete one."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Cursor(data).file()
        except (struct.error, UnicodeDecodeError, KeyError, TypeError, ArithmeticError, MemoryError) as error:
            raise ValueError("not a GGUF header") from error


class _Cursor:
    """Reads one value after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def file(self) -> Gguf:
        if self._data[:4] != b"GGUF":
            raise ValueError("not a GGUF file")
        self._at = 8  # after the version
        tensor_count, metadata_count = self._take("Q"), self._take("Q")
        metadata = {}
        for _ in range(metadata_count):
            key, value = self._string(), self._value(self._take("I"))
            if value is not None:
                metadata[key] = value
        offsets = [self._tensor() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        start = -(-self._at // alignment) * alignment
        offsets.sort(key=lambda tensor: tensor[1])
        ends = [*(offset for _, offset in offsets[1:]), len(self._data) - start]
        return Gguf(metadata, {name: end - offset for (name, offset), end in zip(offsets, ends, strict=True)})

    def _take(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += struct.calcsize(f"<{code}")
        return value

    def _string(self) -> str:
        length = self._take("Q")
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        return self._array() if kind == _ARRAY else self._take(_NUMBERS[kind])

    def _array(self) -> list[Any] | None:
        """None for what cannot be a setting: nested lists, strings (the vocabulary and its merges)."""
        kind, count = self._take("I"), self._take("Q")
        if kind == _STRING:
            self._skip_strings(count)
            return None
        if kind == _ARRAY:
            for _ in range(count):
                self._array()
            return None
        values = struct.unpack_from(f"<{count}{_NUMBERS[kind]}", self._data, self._at)
        self._at += struct.calcsize(f"<{count}{_NUMBERS[kind]}")
        return list(values)

    def _skip_strings(self, count: int) -> None:
        """Half a million of them are not rare: the one place here that has to be fast."""
        data, at, length_at = self._data, self._at, struct.Struct("<Q").unpack_from
        for _ in range(count):
            at += 8 + length_at(data, at)[0]
        self._at = at

    def _tensor(self) -> tuple[str, int]:
        name = self._string()
        dimensions = self._take("I")
        self._at += 8 * dimensions + 4  # its shape and its type: the distance to the next one says enough
        return name, self._take("Q")
