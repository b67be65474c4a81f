"""What llama.cpp and mtmd write to their logs, as ours at level debug: to them all of it is news."""

import logging

import llama_cpp.llama_cpp as llama
import llama_cpp.mtmd_cpp as mtmd

_logger = logging.getLogger(__name__)


@llama.llama_log_callback
def _log(level: int, text: bytes, data: object) -> None:
    if _logger.isEnabledFor(logging.DEBUG) and (line := text.decode(errors="replace").strip(" .\n")):
        _logger.debug("%s", line)


def listen() -> None:
    """From here on. Both libraries write to the process's standard error otherwise."""
    llama.llama_log_set(_log, None)
    mtmd.mtmd_log_set(_log, None)
    mtmd.mtmd_helper_log_set(_log, None)
