"""Linear layers whose weights are laid out for the CPU say what they said before, to the bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from providers.packed import PackedLinear, SharedLinear, pack

SIZES = st.integers(1, 70)

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU computes nothing in bfloat16, and packs nothing"
)


class Model(nn.Module):
    """A language model's output layer may be its embeddings."""

    def __init__(self, dtype: torch.dtype, *, tied: bool = False) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(9, 8)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8, bias=False))])
        self.head = nn.Linear(8, 9, bias=False)
        if tied:
            self.head.weight = self.embeddings.weight
        self.to(dtype).eval()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        values = self.embeddings(tokens)
        for layer in self.layers:
            values = layer(values)
        said: torch.Tensor = self.head(values)
        return said


@given(SIZES, SIZES, SIZES, st.booleans())
def test_a_layer_computes_what_it_did(tokens: int, width: int, out: int, bias: bool) -> None:
    torch.manual_seed(tokens)
    linear = nn.Linear(width, out, bias=bias).bfloat16()
    values = torch.randn(1, tokens, width).bfloat16()
    with torch.inference_mode():
        assert torch.equal(PackedLinear(linear)(values), linear(values))


@given(SIZES, SIZES, SIZES, SIZES)
def test_so_does_one_whose_weight_is_shared(answers: int, tokens: int, width: int, out: int) -> None:
    torch.manual_seed(tokens)
    linear = nn.Linear(width, out, bias=False).bfloat16()
    values = torch.randn(answers, tokens, width).bfloat16()
    with torch.inference_mode():
        torch.testing.assert_close(SharedLinear(linear)(values), linear(values), rtol=0.01, atol=0.01)


def packed(model: nn.Module) -> int:
    return sum(isinstance(layer, PackedLinear) for layer in model.modules())


@torch.inference_mode()
def test_a_model_says_the_same_without_its_weights_being_there_twice() -> None:
    model, tokens = Model(torch.bfloat16), torch.arange(9)[None]
    before = model(tokens)
    pack(model)
    assert torch.equal(model(tokens), before)
    assert packed(model) == 3
    assert [name for name, _ in model.named_parameters()] == ["embeddings.weight"]


@torch.inference_mode()
def test_what_is_shared_with_the_embeddings_is_still_theirs() -> None:
    model, tokens = Model(torch.bfloat16, tied=True), torch.arange(9)[None]
    before = model(tokens)
    pack(model)
    torch.testing.assert_close(model(tokens), before, rtol=0.01, atol=0.01)
    assert isinstance(model.head, SharedLinear)
    assert model.head.weight is model.embeddings.weight
    assert packed(model) == 2


def test_other_numbers_and_layers_of_another_kind_stay() -> None:
    class Scaled(nn.Linear):
        """What it computes is its own affair."""

    single, other = Model(torch.float32), nn.Sequential(Scaled(8, 8).bfloat16())
    pack(single)
    pack(other)
    assert packed(single) == packed(other) == 0
