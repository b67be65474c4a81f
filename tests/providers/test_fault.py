import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmux.errors import InvalidRequest, LoadFailed
from providers.fault import fault_of, says_full
from vram.refusal import DeviceFailed

FULL = [
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.47 GiB",  # torch's allocator
    "CUDA error: out of memory",  # cudaMalloc beside it
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
    "unable to mmap 290403936 bytes from file <model.safetensors>: Cannot allocate memory (12)",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 4096",
    "std::bad_alloc",
    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9866.00 MiB on device 0: cudaMalloc failed: out of memory",
    "ggml_aligned_malloc: insufficient memory (attempted to allocate  49.13 MB)",
    "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
    "llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache",
]
FAILED = [
    "CUDA error: device-side assert triggered",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: unspecified launch failure",
    "CUDA error: misaligned address",
    "CUDA error: an illegal instruction was encountered",
    "CUDA error: operation not supported on global/shared address space",
    "CUDA error: the launch timed out and was terminated",
    "Triton Error [CUDA]: an illegal memory access was encountered",
]
OTHER = [
    "decode: failed to find a memory slot for batch of size 512",  # the context is full, not the device
    "llama_model_load: error loading model: tensor 'x' data is not within the file bounds, model is corrupted",
    "CUDA error: invalid argument",
    "CUDA error: no kernel image is available for execution on the device",
    "misaligned address of a tokenizer's own",
    "out of resource: shared memory, Required: 106496, Hardware limit: 101376",  # triton, of one kernel
    "Expected all tensors to be on the same device",
]


@pytest.mark.parametrize("text", FULL)
def test_each_librarys_words_for_no_memory_are_known(text: str) -> None:
    assert says_full(text)
    assert type(fault_of(RuntimeError(text))) is MemoryError


@pytest.mark.parametrize("text", FAILED)
def test_what_only_another_process_can_mend_is_a_failed_device(text: str) -> None:
    fault = fault_of(torch.AcceleratorError(f"{text}\nCUDA kernel errors might be asynchronously reported"))
    assert isinstance(fault, DeviceFailed)
    assert fault.reason == text


@pytest.mark.parametrize("text", OTHER)
def test_what_only_sounds_like_it_is_something_else(text: str) -> None:
    assert not says_full(text)
    assert fault_of(RuntimeError(text)) is None


def test_allocations_that_really_fail_are_known() -> None:
    for allocate in (lambda: torch.empty(1 << 60), lambda: np.empty(1 << 55)):
        with pytest.raises((RuntimeError, MemoryError)) as raised:
            allocate()
        assert type(fault_of(raised.value)) is MemoryError


def wrapped(error: Exception) -> LoadFailed:
    try:
        try:
            raise error
        except Exception:
            raise LoadFailed("transformers cannot load it") from None
    except LoadFailed as outer:
        return outer


@given(depth=st.integers(0, 5))
def test_it_is_found_however_deep_it_was_wrapped(depth: int) -> None:
    error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")
    for _ in range(depth):
        error = wrapped(error)
    assert str(fault_of(error)) == "CUDA out of memory. Tried to allocate 2.00 GiB."


def test_the_fault_holds_on_to_nothing_of_what_was_raised() -> None:
    fault = fault_of(wrapped(torch.OutOfMemoryError("CUDA out of memory")))
    assert fault is not None
    assert (fault.__cause__, fault.__context__, fault.__traceback__) == (None, None, None)


def test_words_that_llmux_repeats_to_a_client_are_not_taken_for_a_librarys() -> None:
    for words in ("out of memory", "CUDA error: device-side assert triggered"):
        assert fault_of(InvalidRequest(f"there is no voice {words!r}")) is None
