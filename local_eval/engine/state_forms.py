"""What people's code packs around a state dict, taken off where that can mean one thing only, and said.

How it is used: `state, form = plain_state(loaded, net.state_dict(), "model_3.pt")`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from local_eval.engine.state_files import CheckpointError

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
