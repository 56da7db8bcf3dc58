"""Write what rembg's own session answers, at the network's size: `rembg_masks.py OUT MODEL PHOTO…`.

Runs in a process of its own: importing rembg compiles numba code unless that is switched off before
the first import, and pulls half a gigabyte of packages in.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ["NUMBA_DISABLE_JIT"] = "1"
os.environ["MODEL_CHECKSUM_DISABLED"] = "1"

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from rembg.sessions import sessions_names
from rembg.sessions.u2netp import U2netpSession


@dataclass
class NetworkSized:
    """A picture that claims the network's size, so that its mask is not scaled up."""

    convert: Callable[[str], Any]
    size: tuple[int, int]


def main(target: str, name: str, photographs: list[str]) -> None:
    assert name in sessions_names
    session = U2netpSession(name, onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])
    masks: dict[str, Any] = {}
    for path in photographs:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            (mask,) = session.predict(NetworkSized(upright.convert, (320, 320)))
        masks[path] = np.asarray(mask)
    np.savez(target, **masks)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
