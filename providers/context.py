"""What an engine of chat is asked, and how much of it the model's context holds: prompt and answer together."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from llmux.errors import ContextLengthExceeded, InvalidRequest
from providers.runtime import Image, Sampling

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    prompt: str
    sampling: Sampling
    images: Sequence[Image] = ()


def fitting_context(name: str, wanted: int, trained: int) -> int:
    """As many tokens as are wanted, but no more than the model was trained with."""
    if wanted > trained:
        _logger.info("%s: context %d instead of %d: it was trained with no more", name, trained, wanted)
    return min(wanted, trained)


def answer_tokens(prompt: int, context: int, wanted: int | None) -> int:
    """Most tokens of the answer to a prompt of so many. Raises InvalidRequest, and ContextLengthExceeded."""
    if prompt == 0:
        raise InvalidRequest("the prompt is empty", param="messages")
    if prompt >= context:
        raise ContextLengthExceeded(
            f"the prompt has {prompt} tokens; the model's context holds {context}, answer included", param="messages"
        )
    room = context - prompt
    return room if wanted is None else min(wanted, room)
