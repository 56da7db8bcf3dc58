"""What the tests of the imaging core share."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from core import Segmenter, load_segmenter


@pytest.fixture(scope="session")
def lite() -> Segmenter:
    """Load the weights that ship with the project."""
    return load_segmenter("cutout-lite", None)


def encoded(pixels: NDArray[Any], file_format: str, **options: Any) -> bytes:
    """Encode pixels with Pillow, which is not what the core writes with."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def opened(content: bytes) -> NDArray[np.uint8]:
    """Decode with Pillow what the core wrote."""
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image)
