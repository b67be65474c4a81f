"""What llmux remembers of the request that is being answered.

LiteLLM stands between the provider that fails and the client that must learn why, and keeps little more than the
status. So whoever raises notes the error here, and the outermost layer (answer.py) tells the client.
"""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from llmux.errors import LlmuxError
from vram.snapshot import Wait

log = logging.getLogger("llmux")


@dataclass(slots=True)
class Request:
    """model: the virtual name that the client used, once admission has accepted it
    problem: what is wrong with its body, to be told once its key is known to be good
    streams: the client asked for its answer as a stream of events
    silent: it did, and the model has said nothing yet that such a stream would hold
    on_lease: called when a lease is asked for, with what tells where it stands (None once it does not wait) and with
        what gives it back, to be called when the request is over
    on_end: takes what is to be called when the request is over, whether its client was answered or left
    """

    model: str | None = None
    streams: bool = False
    silent: bool = False
    error: LlmuxError | None = None
    problem: LlmuxError | None = None
    on_lease: Callable[[Callable[[], Wait | None], Callable[[], None]], None] = lambda wait, give_back: None
    on_end: Callable[[Callable[[], None]], None] = lambda call: None


_current: ContextVar[Request | None] = ContextVar("llmux_request", default=None)


def begin() -> Request:
    """Start remembering, for this task and every task that it starts."""
    request = Request()
    _current.set(request)
    return request


def current() -> Request:
    """The request being answered; outside of one, a record that nobody reads."""
    return _current.get() or Request()


@contextmanager
def errors_noted() -> Iterator[None]:
    """Note what a block raises, so that the client is told exactly that; and log what nobody foresaw.

    The log gets type and place of such an error but not its message, which may quote what was asked.
    """
    try:
        yield
    except LlmuxError as error:
        current().error = error
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s in %s, line %s", type(error).__name__, Path(place.filename).name, place.lineno, exc_info=True)
        current().error = LlmuxError("the gateway failed to answer; its log says where")
        raise
