"""Holds a checkpoint on the device as it is stored, and computes with it, where no runtime can, for want of a kernel.

What it takes, how it comes there and how it goes are those of a real model; what it answers is nothing.
"""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from providers.worker import Cancelled, Worker

_TOKENS = 256
"""Rows of activations that each matrix is multiplied with: a step of a prompt in providers.transformers_chat."""

_SLICE_BYTES = 64 * 2**20
"""How much of a matrix is expanded to bfloat16 at one time, and how large its product may be."""


class StandIn:
    """A Runtime that answers no task."""

    def __init__(self, name: str) -> None:
        self._worker = Worker(name)
        self._tensors: list[Any] = []

    async def open(self, files: Sequence[Path], device: str) -> None:
        """Read the safetensors files; `close` is due even when this fails. Raises torch's errors."""

        def read(_: Cancelled) -> None:
            from safetensors.torch import load_file

            for path in files:
                self._tensors += load_file(path, device=device).values()

        await self._worker.run(read)

    async def compute(self) -> None:
        """Multiply with each matrix once."""
        await self._worker.run(self._compute)

    async def close(self) -> None:
        try:
            await self._worker.run(self._free)
        finally:
            await self._worker.close()

    def _compute(self, cancelled: Cancelled) -> None:
        import torch

        with torch.inference_mode():
            for tensor in self._tensors:
                if tensor.ndim < 2 or cancelled.is_set():
                    continue
                matrix = tensor.flatten(0, -2) if tensor.ndim < 4 else tensor.flatten(0, 1).flatten(1)
                steps = torch.ones(_TOKENS, matrix.shape[1], dtype=torch.bfloat16, device=matrix.device)
                for rows in matrix.split(max(1, _SLICE_BYTES // (2 * max(matrix.shape[1], _TOKENS)))):
                    (steps @ rows.to(torch.bfloat16).T).sum().item()  # waits until it is computed

    def _free(self, _: Cancelled) -> None:
        self._tensors.clear()
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
