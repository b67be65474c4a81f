"""Where llama.cpp computes on the processor: one thread on each core, and it stays there.

The threads wait for each other after each operation, many hundred times a token, without sleeping. Where the scheduler
moves one of them onto the core of another, which it does after the event loop had a core for a moment, all wait for a
whole time slice: a stream through the gateway lost 4 % of its speed by that (docs/measurements.md).
"""

import ctypes
import os
from typing import Any

import llama_cpp.llama_cpp as llama
from llama_cpp._ggml import libggml

_MOST_CORES = 512
"""GGML_MAX_N_THREADS, which numbers and counts them."""


class _Parameters(ctypes.Structure):
    """ggml_threadpool_params, of ggml.h"""

    _fields_ = (
        ("cpumask", ctypes.c_bool * _MOST_CORES),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


class LlamaThreads:
    """The threads of one context, which has to be freed first.

    context: a llama_context with as many threads as this process may use cores
    """

    def __init__(self, context: Any) -> None:
        self._pool: int | None = None
        cores = os.sched_getaffinity(0)
        # With a GPU the few operations left are not worth it that the threads of all models sit on one core.
        if llama.llama_supports_gpu_offload() or max(cores) >= _MOST_CORES:
            return
        parameters = _Parameters()
        _init(ctypes.byref(parameters), len(cores))
        for core in cores:
            parameters.cpumask[core] = True
        parameters.strict_cpu = True
        self._pool = _new(ctypes.byref(parameters))
        _attach(context, self._pool, None)

    def close(self) -> None:
        if self._pool is not None:
            _free(self._pool)
        self._pool = None


def _function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    """llama-cpp-python has no names for these."""
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


_init = _function(libggml, "ggml_threadpool_params_init", None, ctypes.POINTER(_Parameters), ctypes.c_int)
_new = _function(libggml, "ggml_threadpool_new", ctypes.c_void_p, ctypes.POINTER(_Parameters))
_free = _function(libggml, "ggml_threadpool_free", None, ctypes.c_void_p)
_attach = _function(
    llama._lib, "llama_attach_threadpool", None, llama.llama_context_p_ctypes, ctypes.c_void_p, ctypes.c_void_p
)
