"""Read many image files of one size into one tensor: what a picture's pixels are, twins, and a cache of decoded pixels.

Threads read and decode, since hashlib and Pillow release the interpreter's lock. The pixels are kept by the content of
the files so that a grading's worker processes share its memory pages instead of decoding again.

How it is used: `read_images([Path("a.png"), Path("b.png")])`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
import psutil
import torch
import torchvision
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import Resize

from local_eval.store.errors import WorkError
from local_eval.store.files import OutputError, write_atomically
from local_eval.store.sealed import HEX, MARK
from local_eval.tasks.data.tables import TOLD, Faults
from local_eval.tasks.names import TaskError

# The same picture twice, by its pixels: under two names, or in two formats.
#
# Between retain and forget it is refused for people's own data: oracles would see what they are to forget. Elsewhere
# it is told and allowed, as in the competition, whose frames of one person are in several sets.


def hashes(images: Tensor) -> list[bytes]:
    """The hash of each image's pixels; images uint8 [n, C, H, W] on the CPU. About 2 GB a second and core."""
    pixels = images.numpy()

    def part(start: int) -> list[bytes]:
        return [hashlib.sha256(image.tobytes()).digest()[:16] for image in pixels[start : start + 512]]

    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        return [one for some in pool.map(part, range(0, len(pixels), 512)) for one in some]


def twins(found: Sequence[bytes]) -> list[list[int]]:
    """Groups of places that hold the same pixels, two or more, in order."""
    places: dict[bytes, list[int]] = {}
    for k, one in enumerate(found):
        places.setdefault(one, []).append(k)
    return [group for group in places.values() if len(group) > 1]


# One picture's pixels as a person sees them, or a sentence that says why they cannot be told for certain.
#
# Taken are 8-bit pictures in colour, grey or with a palette; what a camera marked as turned is turned. Refused is
# what would be clipped, flattened or chosen silently: more than 8 bits, ink colours (CMYK), transparency, several
# frames.


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


# Decoded pixels in one sealed .npy file, for the next process.
#
# It lies below `$XDG_CACHE_HOME/unlearning-kit` (`~/.cache/unlearning-kit` by default) and is named after the content
# of the pictures, so other pixels are never taken for these, whatever their size and time stamp. Its last 71 bytes
# are "sha256:" and the hash of all bytes before, verified at every opening: damage is noticed and the pixels decoded
# anew. The folder may be deleted at any time; where it cannot be written, every process decodes for itself.


PIECE = 2**20  # bytes


def folder() -> Path | None:
    """Where the files lie, or None if there is no home to put them in."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unlearning-kit"
    except RuntimeError:  # no home folder
        return None


def open_pixels(cache: Path | None, count: int) -> np.ndarray | None:
    """uint8 [count, 3, H, W], copy on write, or None if they are not there or not exactly what was written."""
    try:
        if cache is None or not _is_whole(cache):
            return None
        images = np.load(cache, mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    return images if images.dtype == np.uint8 and images.ndim == 4 and len(images) == count else None


def save_pixels(cache: Path | None, images: np.ndarray) -> bool:
    """Keep the pixels for other processes; False if that is not possible, which does no harm."""
    if cache is None:
        return False
    try:
        write_atomically(cache, lambda file: _write_sealed(file, images))
    except OutputError:
        return False
    return True


def _write_sealed(file: BinaryIO, images: np.ndarray) -> None:
    through = _Hashing(file)
    np.save(through, images)
    through.write(MARK)
    file.write(through.sha.hexdigest().encode())


class _Hashing:
    """A file that remembers the hash of what is written to it."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sha.update(content)
        return self.file.write(content)


def _is_whole(cache: Path) -> bool:
    """Does the seal fit what is before it?"""
    sha = hashlib.sha256()
    with open(cache, "rb") as file:
        left = os.fstat(file.fileno()).st_size - HEX
        while left > 0 and (piece := file.read(min(PIECE, left))):
            sha.update(piece)
            left -= len(piece)
        return left == 0 and file.read() == sha.hexdigest().encode()


SUFFIXES = (".png", ".jpg", ".jpeg")
READER_VERSION = 2  # raise it when decoding changes its results: cached pixels are then read anew
AT_ONCE = 64  # files between two looks at what went wrong


def read_images(
    files: Sequence[Path],
    places: Sequence[str] | None = None,
    resize: tuple[int, int] | None = None,
    upright: bool = True,
    source: Path | None = None,
) -> Tensor:
    """uint8 [n, 3, H, W]: the files' pixels in their order, as RGB.

    Args:
        places: file by file, what to begin an error with: "faces.csv, row 7".
        resize: (H, W), by torchvision's Resize on the tensor (bilinear, antialiased); without it all files must have
            one size.
        upright: turn what EXIF says is turned.
        source: what lists the files, for the heading of several errors.

    The tensor may be a private view of a cache file: writing to it changes this process's copy alone.

    Raises:
        TaskError: files are missing, broken, not 8-bit, or of another size than the first; the first ten are told.
    """
    if len(files) == 0:
        raise TaskError("there are no images to read")
    labels = (
        [f"{place}: image {file}" for place, file in zip(places, files)] if places else [f"image {f}" for f in files]
    )
    source = source or Path(os.path.commonpath([Path(f).absolute().parent for f in files]))
    faults = Faults(source)
    contents = _contents(files, labels, faults)
    cache = None if faults.messages else _cache_file(list(contents.values()), resize, upright)
    images = open_pixels(cache, len(files))
    if images is None:
        there = list(contents)  # all of them, or those that can be read, to tell at once what is wrong with them too
        images = _decode([files[k] for k in there], [labels[k] for k in there], resize, upright, faults)
        faults.tell()
        if save_pixels(cache, images):
            kept = open_pixels(cache, len(files))  # let go of this process's own copy
            images = images if kept is None else kept
    return torch.from_numpy(images)


def image_files(folder: Path) -> list[Path]:
    """The PNG and JPEG files that lie directly in a folder, by name; other and hidden files are passed over."""
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))


def _in_threads(one: Callable, files: Sequence[Path], labels: Sequence[str], faults: Faults, take: Callable) -> None:
    """`take(k, one(file, label))` for file by file in order; what is wrong is noted, until it is enough."""
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            jobs = [pool.submit(one, file, label) for file, label in zip(files[part], labels[part])]
            for k, job in enumerate(jobs, start):
                with faults.collecting():
                    take(k, job.result())
            if len(faults.messages) >= TOLD:
                return


def _contents(files: Sequence[Path], labels: Sequence[str], faults: Faults) -> dict[int, str]:
    """The hash of every file's content, by the file's place; files that cannot be read are left out."""
    found: dict[int, str] = {}
    _in_threads(_hash, files, labels, faults, found.__setitem__)
    return found


def _hash(file: Path, label: str) -> str:
    try:
        if message := unreadable(label, os.stat(file)):
            raise TaskError(message)
        with open(file, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except FileNotFoundError:
        raise TaskError(f"{label} does not exist") from None
    except OSError as error:
        raise TaskError(f"{label} cannot be read ({error.strerror})") from error


def _decode(
    files: Sequence[Path], labels: Sequence[str], resize: tuple[int, int] | None, upright: bool, faults: Faults
) -> np.ndarray | None:
    """uint8 [n, 3, H, W]; None if no file can be read."""
    transform, images, first = Resize(resize) if resize else None, None, 0

    def one(file: Path, label: str) -> np.ndarray:
        pixels = pixels_of(Path(file), label, upright)
        return pixels if transform is None else transform(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()

    def take(k: int, image: np.ndarray) -> None:
        nonlocal images, first
        if images is None:
            images, first = _empty_images(len(files), image, faults.source), k
        if image.shape != images.shape[1:]:
            raise TaskError(
                f"{labels[k]} is {_size(image)} (width x height), but {files[first]} is {_size(images[first])}; "
                "resize the images to one size first"
            )
        images[k] = image

    _in_threads(one, files, labels, faults, take)
    return images


def _empty_images(count: int, image: np.ndarray, source: Path) -> np.ndarray:
    """An empty array for `count` such images."""
    if (needed := count * image.nbytes) > (there := psutil.virtual_memory().available):
        raise WorkError(
            f"{source}: {count} images of {_size(image)} need {needed / 1e9:.1f} GB of memory, and {there / 1e9:.1f} "
            "are free; resize the images, or list fewer"
        )
    return np.empty((count, *image.shape), dtype=np.uint8)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"


def _cache_file(contents: Sequence[str], resize: tuple[int, int] | None, upright: bool) -> Path | None:
    """Where the decoded pixels of exactly these contents belong, or None if there is no home to put them in."""
    sha = hashlib.sha256(f"{READER_VERSION} {PIL.__version__} {torchvision.__version__} {resize} {upright}".encode())
    for content in contents:
        sha.update(content.encode())
    where = folder()
    return where and where / f"{sha.hexdigest()[:32]}.npy"
