"""Reads CTranslate2's model.bin, the layout in which the registry's Whisper packages come.

Little-endian: version, name of the specification, its revision; then counted variables (name, shape, type, bytes)
and counted aliases (name, variable). A string is its length with the closing NUL, its bytes, and the NUL.
"""

import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_VERSION = 6
_DTYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)


class InvalidModel(Exception):
    """Not a CTranslate2 model, or one of a layout that this reader does not know."""


def read_model(file: BinaryIO) -> tuple[str, Mapping[str, Array]]:
    """The specification's name and every variable; an alias is the very array that it stands for.

    Raises InvalidModel.
    """
    version = _integer(file)
    if version != _VERSION:
        raise InvalidModel(f"model.bin has layout {version}; this reader knows {_VERSION}")
    name = _string(file)
    _integer(file)  # the specification's revision
    variables = dict(_variable(file) for _ in range(_integer(file)))
    for _ in range(_integer(file)):
        alias, target = _string(file), _string(file)
        if target not in variables:
            raise InvalidModel(f"{alias} stands for {target}, which is not there")
        variables[alias] = variables[target]
    return name, variables


def _variable(file: BinaryIO) -> tuple[str, Array]:
    name = _string(file)
    (rank,) = _read(file, 1)
    shape = tuple(_integer(file) for _ in range(rank))
    (kind,) = _read(file, 1)
    if kind >= len(_DTYPES):
        raise InvalidModel(f"{name} has the unknown type {kind}")
    return name, np.frombuffer(_read(file, _integer(file)), _DTYPES[kind]).reshape(shape)


def _integer(file: BinaryIO) -> int:
    return int.from_bytes(_read(file, 4), "little")


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<H", _read(file, 2))
    return _read(file, length)[:-1].decode()


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise InvalidModel("model.bin ends too early")
    return data
