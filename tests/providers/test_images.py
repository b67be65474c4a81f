"""Images of a chat: found, judged before they are decoded, and seen as people see them."""

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from llmux.config import Images
from llmux.errors import InvalidImage
from providers.images import decode, load, urls

RED, WHITE = [255, 0, 0], [255, 255, 255]


def file(image: Pillow.Image, kind: str = "PNG", **how: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **how)
    return written.getvalue()


def red(width: int = 3, height: int = 2, mode: str = "RGB") -> Pillow.Image:
    return Pillow.new(mode, (width, height), "red")


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


async def never(url: str) -> bytes:
    raise AssertionError(f"{url} is not to be fetched")


# Where they are


def test_images_are_found_in_their_order_and_both_spellings() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}, {"type": "text", "text": "x"}]},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "c"}]},
    ]
    assert list(urls(messages)) == ["a", "c"]


@pytest.mark.parametrize("part", [{}, {"image_url": None}, {"image_url": {}}, {"image_url": {"url": 5}}])
def test_an_image_without_an_address_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidImage, match=r"image_url.url"):
        list(urls([{"role": "user", "content": [{"type": "image_url", **part}]}]))


async def test_an_image_in_the_request_is_not_fetched() -> None:
    (image,) = await load([data_url(file(red()))], Images(), never)
    assert image.shape == (2, 3, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable  # as torch wants it
    assert image.tolist() == [[RED] * 3] * 2


async def test_an_image_elsewhere_is_fetched() -> None:
    async def fetch(url: str) -> bytes:
        assert url == "https://pictures.example/red.png"
        return file(red())

    assert len(await load(["https://pictures.example/red.png"], Images(), fetch)) == 1


async def test_more_images_than_allowed_are_refused_before_any_is_read() -> None:
    with pytest.raises(InvalidImage, match="up to 2 images"):
        await load(["http://a.example/"] * 3, Images(count=2), never)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "red.png",
        "file:///etc/hosts",
        "ftp://a.example/",
        "data:image/png,raw",
        "data:text/html;base64,AAAA",
        "HTTP:",
    ],
)
async def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidImage, match="data: URL in base64"):
        await load([url], Images(), never)


async def test_broken_base64_is_refused() -> None:
    for broken in ("AAA$", "AAA", "é", "AA\nAA"):
        with pytest.raises(InvalidImage, match="not valid base64"):
            await load([f"data:image/png;base64,{broken}"], Images(), never)


async def test_more_bytes_than_allowed_are_refused() -> None:
    data = file(red())
    size = {"size": f"{len(data) / 1e6:.9f} MB"}
    assert len(await load([data_url(data)], Images.model_validate(size), never)) == 1
    with pytest.raises(InvalidImage, match="an image may have up to"):
        await load([data_url(data + b"xyz")], Images.model_validate(size), never)


# What they show


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_the_formats_of_the_web_are_read(kind: str) -> None:
    assert decode(file(red(8, 8), kind), 100).shape == (8, 8, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_kind_of_colour_becomes_rgb(mode: str) -> None:
    image = Pillow.new(mode, (3, 2)) if mode == "I;16" else red(mode="RGB").convert(mode)
    assert decode(file(image), 100).shape == (2, 3, 3)


def test_a_transparent_image_lies_on_white() -> None:
    assert decode(file(Pillow.new("RGBA", (1, 1), (0, 0, 0, 0))), 100).tolist() == [[WHITE]]
    palette = Pillow.new("P", (1, 1))
    assert decode(file(palette, transparency=0), 100).tolist() == [[WHITE]]


def test_an_image_is_turned_as_its_camera_was_held() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # a quarter turn
    assert decode(file(red(3, 2), "JPEG", exif=exif), 100).shape == (3, 2, 3)


def test_of_a_moving_image_the_first_frame_counts() -> None:
    moving = file(red(), "GIF", save_all=True, append_images=[Pillow.new("RGB", (3, 2), "blue")])
    assert decode(moving, 100)[0, 0].tolist() == RED


# What they must not be


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_more_pixels_than_allowed_are_refused_by_the_header() -> None:
    with pytest.raises(InvalidImage, match=r"has 1000x1000 pixels; up to 0\.9 million"):
        decode(bomb(1000, 1000), 900_000)


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_a_bomb_is_refused_unopened(side: int) -> None:
    with pytest.raises(InvalidImage, match="far too many pixels"):
        decode(bomb(side, side), 40_000_000)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        file(red(64, 64))[:60],
        file(red(64, 64), "JPEG")[:300],
        file(red(), "BMP"),
        file(red(), "TIFF"),
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 40,
        b"GIF89a" + b"\xff" * 40,
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        bomb(10, 10),
        bomb(0, 5),
    ],
)
def test_what_is_no_whole_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="cannot be read"):
        decode(data, 1000_000)
