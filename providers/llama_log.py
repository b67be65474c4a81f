"""What llama.cpp and mtmd write to their logs: ours at level debug, since to them all of it is news; and where they
say, as nowhere else, that memory was short, or why the process ends.
"""

import ctypes
import logging
import re
import threading

import llama_cpp.llama_cpp as llama
import llama_cpp.mtmd_cpp as mtmd
from llama_cpp._ggml import libggml

from providers.fault import says_full
from providers.worker import THREAD_PREFIX

_logger = logging.getLogger(__name__)

_ERROR = 4
"""GGML_LOG_LEVEL_ERROR of ggml.h"""


class _Heard(threading.local):
    """shortage: the last line in which llama.cpp told this thread that there was no memory"""

    shortage: str | None = None


_heard = _Heard()


@llama.llama_log_callback
def _log(level: int, text: bytes, data: object) -> None:
    line = text.decode(errors="replace").strip(" .\n")
    if line:
        _logger.debug("%s", line)
    if level == _ERROR and says_full(line):
        _heard.shortage = line


@ctypes.CFUNCTYPE(None, ctypes.c_char_p)
def _last_words(reason: bytes) -> None:
    """Called just before ggml aborts the process, as it does when a GPU's memory runs out within a computation.

    reason: file, line and message; the file as it was where llama.cpp was built
    """
    said = re.sub(r"^.*/(?=[^/]+:\d+: )", "", reason.decode(errors="replace"), flags=re.DOTALL)
    model = threading.current_thread().name.removeprefix(THREAD_PREFIX).removesuffix("_0")
    because = f" ({_heard.shortage})" if _heard.shortage else ""
    _logger.critical("%s: llama.cpp aborts the process: %s%s", model, said, because)


def listen() -> None:
    """From here on. The libraries write to the process's standard error otherwise."""
    libggml.ggml_set_abort_callback(_last_words)
    llama.llama_log_set(_log, None)
    mtmd.mtmd_log_set(_log, None)
    mtmd.mtmd_helper_log_set(_log, None)


def shortage() -> MemoryError | None:
    """What was short when a call of llama.cpp's failed on this thread."""
    line, _heard.shortage = _heard.shortage, None
    return None if line is None else MemoryError(line)
