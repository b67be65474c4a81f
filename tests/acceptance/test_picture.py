import io

import numpy as np
from PIL import Image

from acceptance.picture import data_url, png


def test_the_number_is_large_and_black_on_white() -> None:
    image = Image.open(io.BytesIO(png(427)))
    assert image.size == (448, 448)
    pixels = np.asarray(image.convert("L"))
    rows, columns = np.nonzero(pixels < 128)
    assert rows.max() - rows.min() > 80
    assert 200 < columns.max() - columns.min() < 440
    assert pixels[0, 0] == 255


def test_each_number_has_its_own_picture() -> None:
    assert data_url(427).startswith("data:image/png;base64,")
    assert data_url(427) == data_url(427) != data_url(428)
