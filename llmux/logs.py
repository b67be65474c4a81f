"""What the gateway writes about itself: a line for what happens, nothing of what was said.

By default no traceback is written (it holds paths of the machine) and LiteLLM is quiet (its messages may quote
requests). LLMUX_LOG=debug shows everything.
"""

import copy
import faulthandler
import logging
import os
import sys

LEVEL_VARIABLE = "LLMUX_LOG"

_LITELLM = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router", "backoff")
"""The last is what LiteLLM repeats its database calls with. It quotes what failed."""


class _OneLine(logging.Formatter):
    """Of an exception, its type alone."""

    def format(self, record: logging.LogRecord) -> str:
        plain = copy.copy(record)
        plain.exc_info = plain.exc_text = plain.stack_info = None
        line = super().format(plain)
        kind = record.exc_info[0] if record.exc_info else None
        return f"{line} ({kind.__name__}; LLMUX_LOG=debug shows where)" if kind else line


def log_to_stderr() -> None:
    """Set up logging for the whole process."""
    debug = os.environ.get(LEVEL_VARIABLE, "info").lower() == "debug"
    if debug:
        faulthandler.enable()  # where every thread was when native code ended the process; it writes paths
    formatter = (logging.Formatter if debug else _OneLine)("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)
    for name in _LITELLM:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.DEBUG if debug else logging.CRITICAL)
    # LiteLLM leaves tasks of clients behind that left early, and asyncio complains when these are collected. What it
    # retries while the database is away, backoff and apscheduler tell a line a time, beside our one.
    for name in ("asyncio", "backoff", "apscheduler.scheduler", "apscheduler.executors.default"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.CRITICAL)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.INFO if debug else logging.WARNING)
