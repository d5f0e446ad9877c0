"""One picture's pixels as a person sees them, or a sentence that says why they cannot be told for certain.

Taken are 8-bit pictures in colour, grey or with a palette; what a camera marked as turned is turned. Refused is what
would be clipped, flattened or chosen silently: more than 8 bits, ink colours (CMYK), transparency, several frames.

How it is used: `pixels_of(file, "faces.csv, row 7: image 3.png", upright=True)`.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from local_eval.tasks.names import TaskError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
WITH_PREVIEW = "MPO"  # a phone's JPEG with further pictures behind the one that is meant
EIGHT_BIT = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"}
ORIENTATION = 0x0112  # EXIF
BITS_PER_SAMPLE = 258  # TIFF
PNG_DEPTH = 24  # where a PNG file says how many bits a channel has; Pillow makes 8 of 16 without a word


def pixels_of(file: Path, label: str, upright: bool) -> np.ndarray:
    """uint8 [3, H, W], RGB; `upright` turns what EXIF says is turned.

    Raises:
        TaskError: missing, broken, or without one certain meaning; it begins with `label`.
    """
    try:
        with open(file, "rb") as content, Image.open(content, formats=FORMATS) as image:
            if reason := _doubtful(image, content):
                raise TaskError(f"{label} {reason}")
            if upright and image.getexif().get(ORIENTATION, 1) != 1:
                image = ImageOps.exif_transpose(image)
            if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
                raise TaskError(f"{label} has transparent pixels; put it on a background and save it as RGB")
            return np.array(image.convert("RGB")).transpose(2, 0, 1)
    except FileNotFoundError:
        raise TaskError(f"{label} does not exist") from None
    except TaskError:
        raise
    except Exception as error:  # Pillow has no common base for what a broken file can raise
        raise TaskError(f"{label} cannot be read ({_reason(error, file)})") from error


def unreadable(label: str, about: os.stat_result) -> str | None:
    """A message if what `os.stat` says of a path is no regular file."""
    if stat.S_ISREG(about.st_mode):
        return None
    what = "is a folder" if stat.S_ISDIR(about.st_mode) else "is no regular file"
    return f"{label} cannot be read: it {what}; name one image file"


def _doubtful(image: Image.Image, content: BinaryIO) -> str | None:
    """Why the picture has no one certain meaning in 8-bit RGB, if so."""
    if image.format != WITH_PREVIEW and getattr(image, "is_animated", False):
        return f"has {image.n_frames} frames; save the one that is meant as a picture of its own"
    if image.mode == "CMYK":
        return "has ink colours (CMYK), whose look depends on a profile; save it as 8-bit RGB"
    if image.mode not in EIGHT_BIT:
        return f"has pixels of kind {image.mode}; save it as 8-bit RGB"
    if _bits(image, content) > 8:
        return f"has {_bits(image, content)} bits a channel; save it as 8-bit RGB"
    return None


def _bits(image: Image.Image, content: BinaryIO) -> int:
    """How many bits a channel has in the file."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (8,)))
    if image.format != "PNG":
        return 8
    place = content.tell()
    content.seek(PNG_DEPTH)
    (depth,) = struct.unpack("B", content.read(1))
    content.seek(place)
    return depth


def _reason(error: Exception, file: Path) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}"
    return getattr(error, "strerror", None) or str(error).replace(str(file), file.name) or type(error).__name__
