"""Images that were kept, as people see them."""

import io

import numpy as np
import pytest
from PIL import Image

from search.feedback.pictures import as_png
from trainables.errors import DataError


def test_an_image_of_12_bits_is_shown_by_its_own_range() -> None:
    values = np.linspace(100, 4095, 64).reshape(8, 8)
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(file, "PNG")
    shown = np.asarray(Image.open(io.BytesIO(as_png(file.getvalue()))))
    assert (shown.min(), shown.max()) == (0, 255)
    with pytest.raises(DataError, match="damaged or cut off"):
        as_png(file.getvalue()[:-60])
