"""Linear layers on the CPU, with their weights laid out as its matrix kernels want them.

torch hands bfloat16 weights to oneDNN as they were stored. In the layout of its kernels, made once with the operators
that torch's own compiler uses for it (torch/_inductor/fx_passes/mkldnn_fusion.py), a layer takes some two thirds of the
time for a few tokens, and says the same to the bit.
"""

import torch
from torch import nn


class PackedLinear(nn.Module):
    """What `linear` computes. Its weight is not kept beside the packed one."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        computed: torch.Tensor = torch.ops.mkldnn._linear_pointwise(values, self._weight, self._bias, "none", [], "")
        return computed


def pack(model: nn.Module) -> None:
    """Pack the linear layers of a model that is on the CPU, in place.

    What it shares with another layer stays as it is, because it would be there twice: an output layer's weight is
    often the embeddings'. So does all of it where the CPU knows no bfloat16.
    """
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return
    shared = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Embedding)}
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer.weight.dtype == torch.bfloat16 and id(layer.weight) not in shared:
                setattr(parent, name, PackedLinear(layer))
