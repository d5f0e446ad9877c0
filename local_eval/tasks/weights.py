"""Weights that a task's owner brings along: an original model to unlearn from, or pretrained ones to start from.

They are given as a path, a network or a state dict. Files go through the reader of checkpoints, so nothing in them is
executed; what people's code packs around a state dict is taken off (store/states.py); and names, shapes and
values are checked against the task's network when the task loads, long before anything is trained.

How it is used: `original_state(read_given("model.pth", name, folder), net, name)` in loading.py.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

from torch import Tensor, nn

from local_eval.store.files import user_path
from local_eval.store.sealed import load_state
from local_eval.store.states import SAFETENSORS, check_state, plain_state, read_safetensors, read_state
from local_eval.tasks.names import TaskError

State = dict[str, Tensor]
Weights = State | nn.Module | str | os.PathLike | dict  # what a task may be given; a State once it is loaded
SHOWN = 3  # names in a message


def name_of(given: Weights, otherwise: str) -> str:
    """How messages name weights: by their file, if they are given as one."""
    return os.fspath(given) if isinstance(given, str | os.PathLike) else otherwise


def read_given(given: Weights, name: str, folder: Path) -> object:
    """The object that was given, or that a file holds; a relative path counts from `folder`, or from where we are.

    Raises:
        TaskError, CheckpointError, DamagedFile: it is no such thing, or cannot be read.
    """
    if isinstance(given, nn.Module):
        return given.state_dict()
    if isinstance(given, dict):
        return given
    if not isinstance(given, str | os.PathLike):
        text = "give the path of a file of weights, a network, or its state_dict()"
        raise TaskError(f"{name} is a {type(given).__name__}; {text}")
    path = user_path(os.fspath(given))
    beside = folder / path
    return read_file(beside if not path.is_absolute() and beside.exists() else path)


def read_file(path: Path) -> object:
    """What a .safetensors file, an original.npz of this kit, or any other file that torch.save wrote holds.

    Raises:
        TaskError: there is no such file.
        CheckpointError, DamagedFile: it cannot be read, or holds more than tensors.
    """
    try:
        if path.suffix == ".npz":
            return load_state(path)
        content = path.read_bytes()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise TaskError(f"{path} {reason}; give the file of a model's weights, such as model.pth") from None
    if path.suffix == SAFETENSORS:
        return read_safetensors(content, str(path))
    return read_state(content, str(path), limit=2 * len(content))


def original_state(loaded: object, net: nn.Module, where: str) -> tuple[State, str]:
    """The complete state dict for a network in a loaded object, and in words how it was read.

    Raises:
        TaskError, CheckpointError: it is another network's, or has values that are not finite.
    """
    fitting = net.state_dict()
    state, said = plain_state(loaded, fitting, where)
    if _is_state(state):  # else check_state says so
        _check_names(state, fitting, where)
        for name in (n for n in fitting if _shape(state[n]) != tuple(fitting[n].shape)):
            raise TaskError(_other_shape(where, name, state[name], fitting[name]))
    check_state(state, fitting, where)
    return _plain(state, fitting), said


def start_state(loaded: object, net: nn.Module, where: str, classes: int) -> tuple[State, str]:
    """Weights to start from, and in words how they were read: all of a network's, or all but those of its head.

    The head is what answers with one number a class. Where it is missing or has another size it is left out, and with
    it what stands in its place in another network.

    Raises:
        TaskError, CheckpointError: anything else is missing, or does not fit.
    """
    fitting, heads = net.state_dict(), heads_of(net, classes)
    state, said = plain_state(loaded, fitting, where)
    if not _is_state(state):
        check_state(state, fitting, where)  # says so
    anew = set()
    for head in heads:
        own = [name for name in fitting if name.startswith(f"{head}.")]
        if any(_shape(state.get(name)) != tuple(fitting[name].shape) for name in own):
            anew |= set(own)
    places = tuple(f"{place}." for head in heads for place in (head, _sequence_around(net, head)) if place)
    passed = [name for name in state if name not in fitting and str(name).startswith(places)] if places else []
    kept = {name: value for name, value in state.items() if name not in anew and name not in passed}
    needed = {name: value for name, value in fitting.items() if name not in anew}
    _check_names(kept, needed, where)
    for name in (n for n in needed if _shape(kept[n]) != tuple(needed[n].shape)):
        raise TaskError(_other_shape(where, name, kept[name], needed[name]))
    check_state(kept, needed, where)
    words = [said, f"{', '.join(n for n in fitting if n in anew)} drawn anew" if anew else ""]
    words.append(f"{', '.join(map(str, passed))} passed over" if passed else "")
    return _plain(kept, needed), "; ".join(filter(None, words))


def heads_of(net: nn.Module, classes: int) -> list[str]:
    """The last layers of a network, as far as each answers with one number a class; auxiliary ones are among them."""
    named = [(name, getattr(layer, "weight", None)) for name, layer in net.named_modules() if name]
    answering = [(name, len(w) == classes) for name, w in named if isinstance(w, Tensor) and w.ndim > 1]
    last = itertools.takewhile(lambda one: one[1], reversed(answering))
    return [name for name, _ in last] + [name for name, fits in answering[:-1] if fits and "aux" in name.lower()]


def _sequence_around(net: nn.Module, name: str) -> str:
    """The name of the sequence in which a layer stands, if it is one: a head may be more than a layer."""
    around = name.rpartition(".")[0]
    return around if around and isinstance(net.get_submodule(around), nn.Sequential) else ""


def _is_state(loaded: object) -> bool:
    return isinstance(loaded, dict) and all(isinstance(value, Tensor) for value in loaded.values())


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _check_names(state: dict, fitting: State, where: str) -> None:
    """Raise TaskError for weights of another network."""
    lacks, more = [n for n in fitting if n not in state], [str(n) for n in state if n not in fitting]
    if not lacks and not more:
        return
    said = [f"it lacks {_some(lacks)}"] if lacks else []
    said += [f"it has {_some(more)}, which that network has not"] if more else []
    raise TaskError(
        f"{where} does not hold the weights of the task's network: {' and '.join(said)}; give weights of this network, "
        "or change the network (make_net, --net) to the one that they are of"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _other_shape(where: str, name: str, value: object, fitting: Tensor) -> str:
    shapes = f"{where}: {name} has shape {_shape(value)}, but in the task's network {tuple(fitting.shape)}"
    found = _shape(value) or ()
    if len(found) == fitting.ndim and found[1:] == tuple(fitting.shape[1:]) and name.endswith(("weight", "bias")):
        text = f"{found[0]} outputs instead of {len(fitting)}: was it trained for other classes? Give a model of this"
        return f"{shapes}; it has {text} task's classes, or start from its other layers (Task.start, --start)"
    return f"{shapes}; give a model of the task's network, or change the network (make_net, --net)"


def _plain(state: State, fitting: State) -> State:
    """In the network's own order, types and memory, so that one model is one model however it was kept."""
    plain = {name: state[name].detach().to("cpu", value.dtype) for name, value in fitting.items()}
    return {name: value.contiguous() for name, value in plain.items()}


def digest_of(state: State) -> str:
    """Short hash of weights: of names and bytes, in their order."""
    sha = hashlib.sha256()
    for name, value in state.items():
        sha.update(name.encode() + value.numpy().tobytes())
    return sha.hexdigest()[:12]
