"""The picture that a model with vision is asked about: a number, drawn when it is needed."""

import base64
import io

from PIL import Image, ImageDraw, ImageFont

_SIZE = (448, 448)


def png(number: int) -> bytes:
    """The number, large and black on white."""
    image = Image.new("RGB", _SIZE, "white")
    ImageDraw.Draw(image).text(
        (_SIZE[0] / 2, _SIZE[1] / 2), str(number), fill="black", font=ImageFont.load_default(160), anchor="mm"
    )
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def data_url(number: int) -> str:
    """The picture as chats carry it."""
    return f"data:image/png;base64,{base64.b64encode(png(number)).decode()}"
