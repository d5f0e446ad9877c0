"""Read many image files of one size into one tensor, and keep the decoded pixels for the next process.

Threads decode, since Pillow releases the interpreter's lock. The result is kept as one .npy file below
`$XDG_CACHE_HOME/unlearning-kit` (`~/.cache/unlearning-kit` by default), named after the files' paths, sizes and times,
so that a grading's worker processes share its memory pages instead of decoding again. The folder may be deleted at any
time; where it cannot be written, every process decodes for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.transforms import Resize

from local_eval.engine.files import OutputError, write_atomically
from local_eval.tasks.names import TaskError

SUFFIXES = (".png", ".jpg", ".jpeg")
EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # others would be clipped to 0-255 silently
READER_VERSION = 1  # raise it when decoding changes its results: cached pixels are then read anew


def read_images(
    files: Sequence[Path], places: Sequence[str] | None = None, resize: tuple[int, int] | None = None
) -> Tensor:
    """uint8 [n, 3, H, W]: the files' pixels in their order, as RGB; transparency is dropped.

    `places` says, file by file, what to begin an error with: "faces.csv, row 7". `resize` is (H, W), by torchvision's
    Resize on the tensor (bilinear, antialiased); without it all files must have one size. The tensor may be a private
    view of a cache file: writing to it changes this process's copy alone.

    Raises:
        TaskError: a file is missing, broken, not 8-bit, or of another size than the first.
    """
    if len(files) == 0:
        raise TaskError("there are no images to read")
    labels = (
        [f"{place}: image {file}" for place, file in zip(places, files)] if places else [f"image {f}" for f in files]
    )
    cache = _cache_file(files, labels, resize)
    images = _open(cache, len(files))
    if images is None:
        images = _decode(files, labels, resize)
        if _save(cache, images):
            images = _open(cache, len(files))  # let go of this process's own copy
    return torch.from_numpy(images)


def image_files(folder: Path) -> list[Path]:
    """The PNG and JPEG files that lie directly in a folder, by name; other and hidden files are passed over."""
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))


def _decode(files: Sequence[Path], labels: Sequence[str], resize: tuple[int, int] | None) -> np.ndarray:
    transform = Resize(resize) if resize else None
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        decoded = pool.map(lambda file, label: _read(file, label, transform), files, labels)
        with contextlib.closing(decoded):  # after an error the rest need not be decoded
            first = next(decoded)
            images = np.empty((len(files), *first.shape), dtype=np.uint8)
            images[0] = first
            for k, image in enumerate(decoded, start=1):
                if image.shape != first.shape:
                    raise TaskError(
                        f"{labels[k]} is {_size(image)} (width x height), but {files[0]} is {_size(first)}; "
                        "resize the images to one size first"
                    )
                images[k] = image
    return images


def _read(file: Path, label: str, transform: Resize | None) -> np.ndarray:
    """uint8 [3, H, W] of one file."""
    try:
        with Image.open(file) as image:
            mode = image.mode
            pixels = np.array(image.convert("RGB")).transpose(2, 0, 1)
    except FileNotFoundError:
        raise TaskError(f"{label} does not exist") from None
    except Exception as error:  # Pillow has no common base for what a broken file can raise
        raise TaskError(f"{label} cannot be read ({str(error) or type(error).__name__})") from error
    if mode not in EIGHT_BIT:
        raise TaskError(f"{label} has pixels of kind {mode}; save it as 8-bit RGB")
    return pixels if transform is None else transform(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()


def _size(image: np.ndarray) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"


def _cache_file(files: Sequence[Path], labels: Sequence[str], resize: tuple[int, int] | None) -> Path | None:
    """Where the decoded pixels of exactly these files belong, or None if there is no home to put them in."""
    sha = hashlib.sha256(f"{READER_VERSION} {PIL.__version__} {torchvision.__version__} {resize}".encode())
    for file, label in zip(files, labels):
        try:
            stat = os.stat(file)
        except FileNotFoundError:
            raise TaskError(f"{label} does not exist") from None
        except OSError as error:
            raise TaskError(f"{label} cannot be read ({error.strerror})") from error
        sha.update(f"\0{os.path.abspath(file)}\0{stat.st_size} {stat.st_mtime_ns}".encode(errors="surrogateescape"))
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home folder
        return None
    return root / "unlearning-kit" / f"{sha.hexdigest()[:32]}.npy"


def _open(cache: Path | None, count: int) -> np.ndarray | None:
    """The cached pixels, copy on write, or None if they are not there or not whole."""
    try:
        images = np.load(cache, mmap_mode="c") if cache else None
    except (OSError, ValueError, EOFError):
        return None
    whole = images is not None and images.dtype == np.uint8 and images.ndim == 4 and len(images) == count
    return images if whole else None


def _save(cache: Path | None, images: np.ndarray) -> bool:
    """Keep the pixels for other processes; False if that is not possible, which does no harm."""
    if cache is None:
        return False
    try:
        write_atomically(cache, lambda file: np.save(file, images))
    except OutputError:
        return False
    return True
