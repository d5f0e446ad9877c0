"""Read one file that should be a state dict, from a source that nobody vouches for.

Its sizes are checked before torch sees it, its pickle may name nothing but tensors, and it is loaded weights-only.

How it is used: python -m local_eval grade submission.zip
"""

from __future__ import annotations

import io
import pickletools
import zipfile

import torch
from torch import Tensor

from local_eval.engine.errors import InputError

PICKLED = {  # all that a state dict's pickle may name
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "torch HalfStorage",
    "torch LongStorage",
}


class CheckpointError(InputError):
    """The checkpoints cannot be graded; the message names the file, what is wrong and what is expected."""


def read_state(content: bytes, where: str, limit: int) -> object:
    """Unpickle a checkpoint that names nothing but tensors; raises CheckpointError."""
    _check_inner_zip(content, where, limit)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no common base for what a damaged file can raise
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{where} cannot be loaded ({first_line})") from error


def _check_inner_zip(content: bytes, where: str, limit: int) -> None:
    """What torch.save writes is itself a zip, stored, with one pickle."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if any(i.compress_type != zipfile.ZIP_STORED for i in infos) or sum(i.file_size for i in infos) > limit:
                raise CheckpointError(
                    f"{where} is packed as torch.save never does; save the state dict with torch.save"
                )
            pickles = [archive.read(i) for i in infos if i.filename.endswith("data.pkl")]
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{where} is cut off, or not a file that torch.save writes today ({error})") from error
    for content in pickles:
        _check_pickle(content, where)


def _check_pickle(content: bytes, where: str) -> None:
    try:
        named = {str(a) for op, a, _ in pickletools.genops(content) if op.name in ("GLOBAL", "INST", "STACK_GLOBAL")}
    except Exception as error:  # genops raises whatever the damage leads to
        raise CheckpointError(f"{where} holds a damaged pickle ({error})") from error
    strange = sorted(named - PICKLED)
    if strange:
        raise CheckpointError(
            f"{where} would call {strange[0].replace(' ', '.')}; it must hold a plain state dict of float32 or float16 "
            "tensors: torch.save(net.state_dict(), path)"
        )


def check_state(state: object, fitting: dict[str, Tensor], where: str) -> None:
    """Raise CheckpointError unless `state` has exactly these names, shapes and kinds, all values finite."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{where} holds no state dict; save it with torch.save(net.state_dict(), path)")
    wrong = sorted(map(str, state.keys() ^ fitting.keys()))
    if wrong:
        raise CheckpointError(f"{where} has missing or foreign keys: {', '.join(wrong[:4])}")
    for name, value in state.items():
        if value.shape != fitting[name].shape:
            shapes = f"{tuple(value.shape)}, expected {tuple(fitting[name].shape)}"
            raise CheckpointError(f"{where}: {name} has shape {shapes}")
        if value.is_floating_point() != fitting[name].is_floating_point():
            raise CheckpointError(f"{where}: {name} is {value.dtype}, expected {fitting[name].dtype}")
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f"{where}: {name} holds NaN or infinite values")
