"""What an error of a runtime's says about its device.

torch, triton, ONNX Runtime and llama.cpp each say in words of their own that memory ran out, through exceptions that
share no class, and a library in between may wrap them. That a GPU can no longer be used by this process, torch and
triton say in CUDA's words. Whoever runs native work asks here what was meant.
"""

import re

from llmux.errors import LlmuxError
from vram.refusal import DeviceFailed

_FULL = re.compile(
    r"out of memory|insufficient memory|(?:can't|cannot|unable to|failed to) allocate|_STATUS_ALLOC_FAILED|bad_alloc",
    re.IGNORECASE,
)
"""CUDA and torch's allocator; ggml; torch on the CPU, mmap, ggml's buffers and ONNX Runtime; cuBLAS and cuDNN; C++."""


_FAILED = re.compile(
    r"CUDA.*(?:device-side assert triggered|an illegal memory access was encountered|unspecified launch failure"
    r"|misaligned address|an illegal instruction was encountered|invalid program counter|hardware stack error"
    r"|operation not supported on global/shared address space|the launch timed out and was terminated"
    r"|tensor memory not completely freed|uncorrectable ECC error encountered"
    r"|Invalid access of peer GPU memory over nvlink or a hardware error)"
)
"""What cudaGetErrorString (13.0) says of those errors after which, by the CUDA Runtime API's list of them, "the process
must be terminated and relaunched": 700, 702, 710, 714 to 719, 721 and 226. And of 214: memory that is no more true.
"""


def says_full(text: str) -> bool:
    """Whether a library's message says that there was no memory, on the device or for the process."""
    return _FULL.search(text) is not None


def fault_of(error: BaseException) -> MemoryError | DeviceFailed | None:
    """What the device came to, where the error or one that it arose from says so; None: nothing.

    MemoryError: it is full. DeviceFailed: nothing in this process can use it any more.
    It is a new exception, tied to none: a traceback would keep alive whatever its frames hold, such as half a model.
    """
    cause: BaseException | None = error
    while cause is not None:
        said = str(cause).partition("\n")[0]
        if isinstance(cause, MemoryError):
            return MemoryError(said)
        if isinstance(cause, DeviceFailed):
            return DeviceFailed(cause.reason)
        if not isinstance(cause, LlmuxError):
            if _FAILED.search(said):
                return DeviceFailed(said)
            if says_full(said):
                return MemoryError(said)
        cause = cause.__cause__ or cause.__context__
    return None
