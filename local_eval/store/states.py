"""Read state dicts that nobody vouches for: in plain forms, without running anything that a pickle holds.

Its sizes and checksums are checked before torch sees it, its pickle may name nothing but tensors, and it is loaded
weights-only. What is packed around a state dict in a plain way is taken off.

How it is used: python -m local_eval grade submission.zip
"""

from __future__ import annotations

import io
import pickletools
import zipfile

import torch
from torch import Tensor

from local_eval.store.errors import InputError, first_line

PICKLED = {  # all that a state dict's pickle may name
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",  # tensors that require gradients
    "torch FloatStorage",
    "torch HalfStorage",
    "torch BFloat16Storage",
    "torch DoubleStorage",
    "torch LongStorage",
}
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SAFETENSORS = ".safetensors"
LENGTH = 8  # bytes in which a safetensors file says how long its header is
LONGEST_HEADER = 2**20  # bytes


class CheckpointError(InputError):
    """The checkpoints cannot be graded; the message names the file, what is wrong and what is expected."""


def read_state(content: bytes, where: str, limit: int) -> object:
    """The object in a checkpoint of torch.save's that names nothing but tensors; raises CheckpointError."""
    _check_inner_zip(content, where, limit)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no common base for what a damaged file can raise
        raise CheckpointError(f"{where} cannot be loaded ({first_line(error)})") from error


def read_safetensors(content: bytes, where: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which holds no code and no checksum; raises CheckpointError."""
    from safetensors.torch import load  # here, so that grading .pth files does not need the package

    header = int.from_bytes(content[:LENGTH], "little")
    if len(content) < LENGTH or header > min(LONGEST_HEADER, len(content) - LENGTH):
        raise CheckpointError(f"{where} is cut off, or no safetensors file: its header would have {header} bytes")
    try:
        return load(content)
    except Exception as error:  # its errors have no common base either
        raise CheckpointError(f"{where} cannot be loaded ({first_line(error)})") from error


def _check_inner_zip(content: bytes, where: str, limit: int) -> None:
    """What torch.save writes is itself a zip, stored, with one pickle; torch does not look at its checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if any(i.compress_type != zipfile.ZIP_STORED for i in infos) or sum(i.file_size for i in infos) > limit:
                raise CheckpointError(
                    f"{where} is packed as torch.save never does; save the state dict with torch.save"
                )
            if broken := archive.testzip():
                raise CheckpointError(f"{where} is damaged: the checksum of {broken} in it is wrong; copy it again")
            pickles = [archive.read(i) for i in infos if i.filename.endswith("data.pkl")]
    except CheckpointError:
        raise
    # RuntimeError: a flag was turned over that says that it is encrypted
    except (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
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
            f"{where} would call {strange[0].replace(' ', '.')}; it must hold a plain state dict of floating-point "
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
        _check_value(name, value, fitting[name], where)


def _check_value(name: str, value: Tensor, fitting: Tensor, where: str) -> None:
    """Shape first: what is strided or shared may claim any size, and costs nothing until it is looked at."""
    if value.shape != fitting.shape:
        shapes = f"{tuple(value.shape)}, expected {tuple(fitting.shape)}"
        raise CheckpointError(f"{where}: {name} has shape {shapes}")
    known = FLOATS if fitting.is_floating_point() else (fitting.dtype,)
    if value.dtype not in known or value.layout != torch.strided:
        raise CheckpointError(f"{where}: {name} is {value.dtype}, expected {fitting.dtype}")
    if value.is_floating_point() and not value.to(fitting.dtype).isfinite().all():  # 1e300 is finite in float64 only
        raise CheckpointError(f"{where}: {name} holds NaN or infinite values")


# What people's code packs around a state dict, taken off where that can mean one thing only, and said.


WRAPPERS = ("state_dict", "model", "net", "model_state_dict", "net_state_dict", "model_state", "network", "weights")
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
COUNTER = "num_batches_tracked"  # counts batches in training; nothing in evaluation depends on it


def plain_state(loaded: object, fitting: dict[str, Tensor], where: str) -> tuple[object, str]:
    """The state dict in a loaded object, and in words what was done to find it; empty if nothing was.

    Raises:
        CheckpointError: there are several state dicts in it.
    """
    said: list[str] = []
    state = _unwrapped(loaded, where, said)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        return state, ""
    state = _without_prefixes(state, fitting, said)
    if any(value.requires_grad for value in state.values()):
        state = {name: value.detach() for name, value in state.items()}
    missing = [n for n in fitting if n not in state and n.rpartition(".")[2] == COUNTER]
    if missing and state:
        said.append(f"{COUNTER} filled in")
        state = {**state, **{name: fitting[name].detach().cpu() for name in missing}}
    kinds = {v.dtype for v in state.values() if v.is_floating_point()} - {torch.float32}
    said += [f"{str(kind).removeprefix('torch.')} read as float32" for kind in sorted(kinds, key=str)]
    return state, ", ".join(said)


def _unwrapped(loaded: object, where: str, said: list[str]) -> object:
    if not isinstance(loaded, dict):
        return loaded
    inside = [key for key, value in loaded.items() if _is_state(value)]
    if len(inside) > 1:
        raise CheckpointError(
            f"{where} holds several state dicts: {', '.join(map(str, inside[:4]))}; save the one that is meant"
        )
    if not inside:
        return loaded
    if inside[0] not in WRAPPERS or any(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(
            f"{where} holds a state dict under {inside[0]!r} beside other things; save it alone: "
            "torch.save(net.state_dict(), path)"
        )
    others = sorted(str(key) for key in loaded if key != inside[0])
    passed = f" ({', '.join(others[:3])} passed over)" if others else ""
    said.append(f"taken from {inside[0]!r}{passed}")
    return loaded[inside[0]]


def _is_state(value: object) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(isinstance(v, Tensor) for v in value.values())


def _without_prefixes(state: dict, fitting: dict[str, Tensor], said: list[str]) -> dict:
    """The same without a prefix that all names have, unless the network's own names have it.

    A prefix that somebody chose, such as 'model.' of a module around the network, goes where what is left is names of
    the network's alone.
    """
    for _ in range(4):  # compiled and wrapped, each once or twice
        prefix = next((p for p in PREFIXES if state and all(str(name).startswith(p) for name in state)), None)
        if prefix is None or all(name.startswith(prefix) for name in fitting):
            break
        said.append(f"prefix {prefix!r} taken off")
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    prefix = str(next(iter(state), "")).partition(".")[0] + "."
    short = {str(name).removeprefix(prefix): value for name, value in state.items()}
    shared = state and all(str(name).startswith(prefix) for name in state)
    if shared and short.keys() <= fitting.keys() and not state.keys() & fitting.keys():
        said.append(f"prefix {prefix!r} taken off")
        return short
    return state
