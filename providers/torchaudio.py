"""torchaudio beside a torch without CUDA.

The registry's torchaudio is built against CUDA's libraries and cannot be imported where torch has none, although what
chatterbox takes from it (resampling, filter banks) is plain Python. torchaudio has a way to go without its native parts
(torchaudio/_extension/__init__.py); here it is sent on that way.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def without_native_parts() -> None:
    """Call before anything imports torchaudio. Does nothing where torch has CUDA, nor the second time."""
    import torch

    if torch.version.cuda is None and "torchaudio._extension" not in sys.modules:
        sys.modules["torchaudio._extension"] = _absent()


def _absent() -> ModuleType:
    """What torchaudio's own module says where it finds no native library."""
    module: Any = ModuleType("torchaudio._extension")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._IS_ALIGN_AVAILABLE = False
    module.fail_if_no_align = _unavailable
    return module  # type: ignore[no-any-return]


def _unavailable(function: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{function.__name__} needs torchaudio's native parts, which need CUDA")

    return refuse
