"""Beginnings of prompts that need not be computed again: the conversation so far, the same system prompt and tools.

A prompt is a list of items here: a token is its number, and an image a negative number made of all its pixels, so that
two images are the same item only if they are the same image.
"""

import hashlib
from collections.abc import Collection, Sequence

from providers.runtime import Image

WORTH = 64
"""Tokens that are worth a wait for somebody else's prompt, or the keeping of a state."""


def image_item(image: Image) -> int:
    digest = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()
    return -1 - int.from_bytes(digest, "big")


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many items both begin with. By halves: Python compares whole slices much faster than item by item."""
    same, most = 0, min(len(one), len(other))
    while same < most:
        half = (same + most + 1) // 2
        if one[same:half] == other[same:half]:
            same = half
        else:
            most = half - 1
    return same


def weight(items: Sequence[int]) -> int:
    """Tokens that need not be computed where these items are known, at least."""
    return len(items) + sum(WORTH for item in items if item < 0)


def borders(prompt: Sequence[int], control: Collection[int]) -> list[int]:
    """Where states are worth keeping: before the model's own turn, which the next prompt of this conversation does not
    repeat as it stands here, and after the first message, which other conversations begin with too.

    control: tokens that steer the model; the last of them in a prompt begins the model's turn
    """
    turn = next((index for index in reversed(range(len(prompt))) if prompt[index] in control), 0)
    if not turn:
        return []
    turns = [index for index in range(turn + 1) if prompt[index] == prompt[turn]]
    return sorted(
        {border for border in (turns[1] if len(turns) > 1 else turn, turn) if weight(prompt[:border]) >= WORTH}
    )
