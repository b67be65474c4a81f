import io
import struct

import numpy as np
import pytest

from demo.ctranslate2 import Array, InvalidModel, read_model

TYPES = ("float32", "int8", "int16", "int32", "float16")


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def variable(name: str, array: Array) -> bytes:
    shape = b"".join(struct.pack("<I", size) for size in array.shape)
    data = array.tobytes()
    kind = TYPES.index(array.dtype.name)
    return text(name) + bytes([array.ndim]) + shape + bytes([kind]) + struct.pack("<I", len(data)) + data


def model(variables: dict[str, Array], aliases: dict[str, str] | None = None, *, version: int = 6) -> bytes:
    names = aliases or {}
    parts = [struct.pack("<I", version), text("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    parts += [variable(name, array) for name, array in variables.items()]
    parts += [struct.pack("<I", len(names))]
    parts += [text(alias) + text(target) for alias, target in names.items()]
    return b"".join(parts)


def test_reads_names_shapes_types_and_values() -> None:
    arrays: dict[str, Array] = {
        "weight": np.arange(6, dtype=np.float16).reshape(2, 3),
        "bias": np.array([1.5, -2], np.float32),
        "heads": np.array(8, np.int16),
    }

    name, variables = read_model(io.BytesIO(model(arrays)))

    assert name == "WhisperSpec"
    assert list(variables) == list(arrays)
    for key, array in arrays.items():
        assert variables[key].dtype == array.dtype
        np.testing.assert_array_equal(variables[key], array)


def test_an_alias_is_the_array_it_stands_for() -> None:
    data = model({"embedding": np.ones((2, 2), np.float16)}, {"projection": "embedding"})

    _, variables = read_model(io.BytesIO(data))

    assert variables["projection"] is variables["embedding"]


def test_an_alias_for_nothing_is_refused() -> None:
    with pytest.raises(InvalidModel, match="projection stands for embedding"):
        read_model(io.BytesIO(model({}, {"projection": "embedding"})))


def test_another_layout_is_refused() -> None:
    with pytest.raises(InvalidModel, match="layout 5"):
        read_model(io.BytesIO(model({}, version=5)))


def test_an_unknown_type_is_refused() -> None:
    data = bytearray(model({"w": np.array(1, np.int8)}))
    data[data.index(b"w\0") + 3] = 99

    with pytest.raises(InvalidModel, match="unknown type 99"):
        read_model(io.BytesIO(bytes(data)))


def test_a_file_that_ends_anywhere_too_early_is_refused() -> None:
    data = model({"weight": np.ones(3, np.float32)}, {"other": "weight"})

    for size in range(len(data)):
        with pytest.raises(InvalidModel, match="too early"):
            read_model(io.BytesIO(data[:size]))
