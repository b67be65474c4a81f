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


class SharedLinear(nn.Module):
    """What `linear` computes, which has no bias. Its weight stays as it was stored: embeddings are read from it, too,
    and packed it would be there twice.

    As the left factor of a product such a weight takes half to three quarters of the time, if the other factor has two
    columns or more (docs/measurements.md).
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        rows = values.flatten(0, -2)
        if len(rows) > _FEW:
            return nn.functional.linear(values, self.weight)
        columns = rows.expand(max(2, len(rows)), -1).t()
        computed = (self.weight @ columns)[:, : len(rows)]
        return computed.t().contiguous().unflatten(0, values.shape[:-1])


_FEW = 16
"""Rows for which both ways round it alike."""


def pack(model: nn.Module) -> None:
    """Lay out the linear layers of a model that is on the CPU, in place, where the CPU knows bfloat16."""
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return
    shared = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Embedding)}
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is not nn.Linear or layer.weight.dtype != torch.bfloat16:
                continue
            if id(layer.weight) not in shared:
                setattr(parent, name, PackedLinear(layer))
            elif layer.bias is None:
                setattr(parent, name, SharedLinear(layer))
