"""Read many image files of one size into one tensor, and keep the decoded pixels for the next process.

Threads read and decode, since hashlib and Pillow release the interpreter's lock. The pixels are kept by the content of
the files (pixel_cache.py), so that a grading's worker processes share its memory pages instead of decoding again.

How it is used: `read_images([Path("a.png"), Path("b.png")])`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import psutil
import torch
import torchvision
from torch import Tensor
from torchvision.transforms import Resize

from local_eval.engine.errors import WorkError
from local_eval.tasks.names import TaskError
from local_eval.tasks.readers.faults import TOLD, Faults
from local_eval.tasks.readers.pictures import pixels_of, unreadable
from local_eval.tasks.readers.pixel_cache import folder, open_pixels, save_pixels

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
            images, first = _room(len(files), image, faults.source), k
        if image.shape != images.shape[1:]:
            raise TaskError(
                f"{labels[k]} is {_size(image)} (width x height), but {files[first]} is {_size(images[first])}; "
                "resize the images to one size first"
            )
        images[k] = image

    _in_threads(one, files, labels, faults, take)
    return images


def _room(count: int, image: np.ndarray, source: Path) -> np.ndarray:
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
