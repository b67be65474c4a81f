"""What an error of a runtime's says about its device.

torch, triton, ONNX Runtime and llama.cpp each say in words of their own that memory ran out, through exceptions that
share no class, and a library in between may wrap them. Whoever runs native work asks here what was meant.
"""

import re

from llmux.errors import LlmuxError

_FULL = re.compile(
    r"out of memory|insufficient memory|(?:can't|cannot|unable to|failed to) allocate|_STATUS_ALLOC_FAILED|bad_alloc",
    re.IGNORECASE,
)
"""CUDA and torch's allocator; ggml; torch on the CPU, mmap, ggml's buffers and ONNX Runtime; cuBLAS and cuDNN; C++."""


def says_full(text: str) -> bool:
    """Whether a library's message says that there was no memory, on the device or for the process."""
    return _FULL.search(text) is not None


def fault_of(error: BaseException) -> MemoryError | None:
    """What the device was short of, where the error or one that it arose from says so; None: nothing.

    It is a new exception, tied to none: a traceback would keep alive whatever its frames hold, such as half a model.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or (not isinstance(cause, LlmuxError) and says_full(str(cause))):
            return MemoryError(str(cause).partition("\n")[0])
        cause = cause.__cause__ or cause.__context__
    return None
