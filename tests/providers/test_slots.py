"""Rows of a cache: how they grow, what is taken out and put back. What models make of them is in test_torch_engine."""

import pytest
import torch
from transformers import GptOssConfig, LlamaConfig

from providers.slots import Slots, UnknownLayer


def slots(rows: int = 4, context: int = 1000) -> Slots:
    config = GptOssConfig(
        num_hidden_layers=2, hidden_size=8, num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=8
    )
    config._attn_implementation = "eager"
    return Slots(config, rows=rows, context=context, device="cpu")


def write(made: Slots, tokens: torch.Tensor) -> None:
    """Keys and values of a step, shape (rows, tokens), each of them its token's number."""
    states = tokens[:, None, :, None].float().expand(-1, 1, -1, 4)
    for layer in range(2):
        made.cache.update(states, states, layer)


def numbered(made: Slots, row: int, start: int, end: int) -> None:
    made.one(row, start)
    write(made, torch.arange(start, end)[None])


def test_room_grows_with_what_is_asked_for_and_is_given_back() -> None:
    made = slots()
    assert made.bytes == 0
    numbered(made, 0, 0, 5)
    one = made.bytes
    numbered(made, 3, 0, 900)
    assert made.bytes > 4 * one
    made.free()
    assert made.bytes == 0
    numbered(made, 0, 0, 5)
    assert made.bytes == one


def test_no_more_than_the_context() -> None:
    made = slots(context=300)
    numbered(made, 0, 0, 300)
    assert made._layers[1].keys.shape[2] == 300


def test_a_window_forgets_and_tells_what_is_left() -> None:
    made = slots()
    numbered(made, 0, 0, 20)
    made.one(0, 20)
    keys, _ = made.cache.layers[0].update(torch.full((1, 1, 1, 4), 20.0), torch.full((1, 1, 1, 4), 20.0))
    assert sorted(keys[0, 0, :, 0].tolist()) == list(range(13, 21))
    assert made.cache.layers[0].get_mask_sizes(1) == (8, 13)


def test_what_was_taken_out_can_be_put_into_another_row() -> None:
    made = slots()
    numbered(made, 0, 0, 20)
    kept, state = made.tokens(0, 0, 20), made.state(0)
    made.put_tokens(2, 0, 20, kept)
    made.put_state(2, state)
    assert torch.equal(made.tokens(2, 0, 20), kept)
    assert all(torch.equal(one, other) for one, other in zip(made.state(2), state, strict=True))
    assert made.stateful


def test_rows_change_places() -> None:
    made = slots()
    numbered(made, 0, 0, 3)
    numbered(made, 1, 0, 4)
    kept = [made.tokens(row, 0, 3) for row in (0, 1)]
    made.exchange(0, 1)
    assert torch.equal(made.tokens(1, 0, 3), kept[0])
    made.move(1, 0)
    assert torch.equal(made.tokens(0, 0, 3), kept[0])


def test_each_row_looks_at_its_own_tokens_alone() -> None:
    made = slots()
    numbered(made, 0, 0, 3)
    numbered(made, 1, 0, 5)
    made.many([3, 5])
    masks = made.mask(torch.float32)
    assert (masks["full_attention"][:, 0, 0] == 0).tolist() == [[True] * 4 + [False] * 2, [True] * 6]


def test_layers_of_another_kind_are_refused_by_name() -> None:
    config = LlamaConfig(num_hidden_layers=1)
    config.layer_types = ["chunked_attention"]
    config.attention_chunk_size = 8
    with pytest.raises(UnknownLayer, match="chunked_attention"):
        Slots(config, rows=1, context=10, device="cpu")
