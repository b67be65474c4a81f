"""What a folder of safetensors holds, and whether this machine can run it as it comes.

FP8 and MXFP4 stay packed on a GPU, or the model is refused: unpacked it would take two or four times the room that was
made for it. On the CPU there are no kernels for either, so both are unpacked, where the RAM suffices.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmux.errors import LoadFailed
from vram.headers import read_safetensors

_UNPACKED = {"F8_E4M3": 2, "U8": 4}
"""How much larger a tensor of this type becomes in bfloat16; MXFP4 lies in bytes of two numbers each."""

_KERNELS = {"fp8": "kernels-community/finegrained-fp8", "mxfp4": "kernels-community/gpt-oss-triton-kernels"}
"""What transformers 5.23 computes each packed type with, beside the packages triton and kernels."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """config: config.json; quantisation: its quant_method, None where weights are plain numbers"""

    name: str
    folder: Path
    config: Mapping[str, Any]
    quantisation: str | None

    @classmethod
    def read(cls, name: str, folder: Path) -> "Checkpoint":
        """Raises LoadFailed for what transformers could only load by running the checkpoint's own code, and for weights
        that are packed in a way not known here.
        """
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            quantisation = (config.get("quantization_config") or {}).get("quant_method")
        except (OSError, ValueError, AttributeError) as error:
            raise LoadFailed(f"the config.json of {name} cannot be read ({type(error).__name__})") from None
        if not _is_known(config.get("model_type")):
            raise LoadFailed(
                f"transformers does not know {name}'s model_type {config.get('model_type')!r}; code that comes with "
                "weights is never run"
            )
        if quantisation not in (None, *_KERNELS):
            raise LoadFailed(f"{name} is quantised by {quantisation!r}; known are {' and '.join(_KERNELS)}")
        return cls(name, folder, config, quantisation)

    @property
    def sees(self) -> bool:
        """Whether it has eyes that this runtime can use: Qwen3.5's."""
        return self.config.get("model_type") in ("qwen3_5", "qwen3_5_moe") and "vision_config" in self.config

    def unpacked_bytes(self) -> int:
        """What the weights take once they are unpacked to bfloat16."""
        return sum(
            tensor.bytes * _UNPACKED.get(tensor.dtype, 1)
            for path in self.folder.glob("*.safetensors")
            for name, tensor in read_safetensors(path).items()
            if not name.endswith(("_scales", "_scale_inv"))
        )

    def check(self, device: str) -> None:
        """Raises LoadFailed where the weights cannot be used on this device, with what is missing."""
        if self.quantisation is None:
            return
        if device == "cpu":
            needed, free = self.unpacked_bytes(), free_ram_bytes()
            if needed > free:
                raise LoadFailed(
                    f"{self.name} needs {needed / 1e9:.1f} GB of memory without a GPU, where its {self.quantisation} "
                    f"weights are unpacked; {free / 1e9:.1f} GB are free"
                )
        elif missing := missing_kernels(self.quantisation):
            raise LoadFailed(
                f"{self.name} needs {', '.join(missing)} to compute with its {self.quantisation} weights; unpacked, "
                f"they would take {self.unpacked_bytes() / 1e9:.1f} GB of VRAM"
            )

    def settings(self, device: str) -> Any:
        """The configuration for from_pretrained. Packed weights are unpacked for the CPU, also where there is a GPU."""
        from transformers import AutoConfig

        settings = AutoConfig.from_pretrained(self.folder, local_files_only=True)
        if self.quantisation is not None and device == "cpu":
            settings.quantization_config["dequantize"] = True
        return settings

    def dtype(self, device: str) -> str:
        """What plain weights are computed in: on a GPU 16 bits, also where they are stored in 32."""
        text = self.config.get("text_config", self.config)
        stored = text.get("dtype") or text.get("torch_dtype") or "float32"
        return "bfloat16" if device == "cuda" and stored == "float32" else "auto"


def _is_known(model_type: object) -> bool:
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def free_ram_bytes() -> int:
    """What processes could still allocate without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def missing_kernels(quantisation: str) -> list[str]:
    """What is not here of what a GPU needs for weights of this kind, in words."""
    import torch
    from transformers.integrations.hub_kernels import get_kernel
    from transformers.utils.import_utils import KERNELS_MIN_VERSION, is_kernels_available, is_triton_available

    least = {"fp8": (8, 9), "mxfp4": (7, 5)}[quantisation]
    missing = []
    if torch.cuda.get_device_capability() < least:
        missing.append(f"a GPU of compute capability {least[0]}.{least[1]} or above")
    if not is_triton_available("3.4.0"):
        missing.append("the package triton (3.4 or newer)")
    if not is_kernels_available():
        missing.append(f"the package kernels ({KERNELS_MIN_VERSION} or newer)")
    if not missing:
        try:
            get_kernel(_KERNELS[quantisation], version=1)
        except Exception:  # whatever it is: not there, not verified, not for this GPU
            missing.append(f"the kernel {_KERNELS[quantisation]}")
    return missing
