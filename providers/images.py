"""The images of a chat: found in its messages, fetched where that is allowed, and decoded.

A decoded image can be a thousand times its file, so its size is read and judged before anything is decoded.
"""

import asyncio
import base64
import io
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from llmux.config import Images
from llmux.errors import InvalidImage
from providers.dialect import IMAGE_PARTS
from providers.runtime import Image

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""OpenAI's."""

_DATA = re.compile(r"data:(?:image/[\w.+-]+)?(?:;[\w=.-]+)*;base64,", re.IGNORECASE)
_FETCHED = re.compile(r"https?://", re.IGNORECASE)

Fetch = Callable[[str], Awaitable[bytes]]


def urls(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The addresses of all images, in their order. Raises InvalidImage for a part without one."""
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping) and part.get("type") in IMAGE_PARTS:
                image = part.get("image_url")
                url = image.get("url") if isinstance(image, Mapping) else image
                if not isinstance(url, str):
                    raise InvalidImage("an image part needs image_url.url", param="messages")
                yield url


async def load(addresses: Sequence[str], limits: Images, fetch: Fetch) -> list[Image]:
    """The images at these addresses. fetch: gets one from elsewhere, no larger than allowed

    Raises InvalidImage.
    """
    if len(addresses) > limits.count:
        raise InvalidImage(f"a request may hold up to {limits.count} images", param="messages")
    return [await asyncio.to_thread(decode, await _bytes(url, limits, fetch), limits.pixels) for url in addresses]


async def _bytes(url: str, limits: Images, fetch: Fetch) -> bytes:
    if _FETCHED.match(url):
        return await fetch(url)
    found = _DATA.match(url)
    if found is None:
        raise InvalidImage("an image must be a data: URL in base64, or an address with http(s)", param="messages")
    if (len(url) - found.end()) * 3 // 4 > limits.size + 2:  # base64's padding
        raise too_large(limits)
    try:
        return await asyncio.to_thread(base64.b64decode, url[found.end() :], validate=True)
    except ValueError:
        raise InvalidImage("the data: URL of an image is not valid base64", param="messages") from None


def too_large(limits: Images) -> InvalidImage:
    """What is said of more bytes than allowed."""
    return InvalidImage(f"an image may have up to {limits.size / 1e6:g} MB", param="messages")


def decode(data: bytes, pixels: int) -> Image:
    """An image as people see it: turned as its camera was held, on white where it is transparent, its first frame.

    pixels: most that it may have. Raises InvalidImage.
    """
    try:
        with Pillow.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > pixels:
                raise InvalidImage(
                    f"the image has {image.width}x{image.height} pixels; up to {pixels / 1e6:g} million are taken",
                    param="messages",
                )
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                white = Pillow.new("RGBA", upright.size, "white")
                upright = Pillow.alpha_composite(white, upright)
            return np.array(upright.convert("RGB"))
    except InvalidImage:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        raise InvalidImage("the image has far too many pixels", param="messages") from None
    except MemoryError:
        raise
    except Exception:  # what a broken file makes a decoder raise, only the file knows
        raise InvalidImage("the image cannot be read; PNG, JPEG, WebP and GIF are taken", param="messages") from None
