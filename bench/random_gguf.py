"""A GGUF of random weights in Q8_0, about as large as Qwen3.5-9B in that type.

A plain Llama: eight billion numbers in 32 layers, whose two key heads make its cache as large as that of Qwen3.5-9B,
where only every fourth layer has one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"

_Q8_0_BLOCK, _Q8_0_BYTES = 32, 34
"""A block: a float16 scale, then a byte for each of its numbers."""

_DRAWN = 2**14
"""Blocks that are drawn; larger tensors repeat them."""


@dataclass(frozen=True, slots=True)
class _Sizes:
    width: int
    feed_forward: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    context: int


_TRUE = _Sizes(4096, 12288, 32, 32, 2, 248_320, 262_144)
_TINY = _Sizes(64, 128, 2, 2, 1, 512, 4096)


def bytes_of(*, tiny: bool) -> int:
    """Of its matrices."""
    return sum(rows * columns // _Q8_0_BLOCK * _Q8_0_BYTES for _, rows, columns in _matrices(_TINY if tiny else _TRUE))


def write(path: Path, *, tiny: bool) -> None:
    """Whole or not at all; a file that is there is taken as written. Raises ImportError and OSError."""
    if path.is_file():
        return
    import gguf

    sizes = _TINY if tiny else _TRUE
    begun = path.with_name(f"{path.name}.begun")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(begun, "llama")
    _describe(writer, sizes)
    vectors = [*(f"blk.{n}.{norm}" for n in range(sizes.layers) for norm in ("attn_norm", "ffn_norm")), "output_norm"]
    for name in vectors:
        writer.add_tensor(f"{name}.weight", np.ones(sizes.width, dtype=np.float32))
    kind = gguf.GGMLQuantizationType.Q8_0
    packed = np.dtype(np.uint8)
    for name, rows, columns in _matrices(sizes):
        shape = (rows, columns // _Q8_0_BLOCK * _Q8_0_BYTES)
        writer.add_tensor_info(f"{name}.weight", shape, packed, rows * shape[1], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in vectors:
        writer.write_tensor_data(np.ones(sizes.width, dtype=np.float32))
    drawn = _blocks()
    for _, rows, columns in _matrices(sizes):
        writer.write_tensor_data(np.resize(drawn, (rows, columns // _Q8_0_BLOCK * _Q8_0_BYTES)))
    writer.close()
    begun.replace(path)


def _blocks() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (_DRAWN, _Q8_0_BYTES), dtype=np.uint8)
    blocks[:, :2] = np.full((_DRAWN, 1), 0.0002, dtype=np.float16).view(np.uint8)  # so that the numbers stay below 0.03
    return blocks


def _matrices(sizes: _Sizes) -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns of each."""
    keys = sizes.width // sizes.heads * sizes.key_heads
    yield "token_embd", sizes.vocabulary, sizes.width
    yield "output", sizes.vocabulary, sizes.width
    for layer in range(sizes.layers):
        for name, rows, columns in (
            ("attn_q", sizes.width, sizes.width),
            ("attn_k", keys, sizes.width),
            ("attn_v", keys, sizes.width),
            ("attn_output", sizes.width, sizes.width),
            ("ffn_gate", sizes.feed_forward, sizes.width),
            ("ffn_up", sizes.feed_forward, sizes.width),
            ("ffn_down", sizes.width, sizes.feed_forward),
        ):
            yield f"blk.{layer}.{name}", rows, columns


def _describe(writer: "gguf.GGUFWriter", sizes: _Sizes) -> None:  # type: ignore[name-defined]  # noqa: F821
    import gguf

    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.width)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.feed_forward)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.key_heads)
    writer.add_rope_dimension_count(sizes.width // sizes.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    spare = sizes.vocabulary - 3 - 256
    kinds = gguf.TokenType
    writer.add_token_list(
        ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(f"<{n}>" for n in range(spare))]
    )
    writer.add_token_scores([0.0] * sizes.vocabulary)
    writer.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256, *[kinds.UNUSED] * spare])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
