"""Networks by name: torchvision's and timm's for classification, or a function in a file of one's own.

    --net resnet34      --net timm:resnet26      --net my_net.py:make

Each is made with as many outputs as the task has classes. What has auxiliary outputs in training (googlenet,
inception_v3) is made without them, and a vision transformer of torchvision for the task's size of images.

How it is used: `network("resnet34", classes=10, size=(32, 32))` in loading.py.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

from torch import nn
from torchvision import models

from local_eval.store.files import user_path
from local_eval.tasks.names import TaskError, nearest
from local_eval.tasks.own_code import Coded

WITHOUT_AUXILIARY = {"googlenet": {"aux_logits": False, "init_weights": True}}
WITHOUT_AUXILIARY["inception_v3"] = WITHOUT_AUXILIARY["googlenet"]


def network(text: str, classes: int, size: tuple[int, int]) -> Callable[[], nn.Module]:
    """What makes a fresh network of this name with so many outputs for images of `size` (height, width).

    Raises:
        TaskError: there is no such network, or its file cannot be used; the message has the nearest names.
    """
    if not isinstance(text, str):
        raise TaskError(f"--net {text!r}: give a name such as 'resnet34', or FILE.py:function")
    head, colon, name = text.rpartition(":")
    if head.endswith(".py") or text.endswith(".py"):
        return _from_file(*((head, name) if head.endswith(".py") else (text, "")), classes)
    if colon and head not in ("timm", "torchvision"):
        raise TaskError(f"--net {text}: before the colon stands timm, torchvision, or the path of a .py file")
    known = [] if head == "timm" else models.list_models(module=models)
    if name in known:
        return partial(_of_torchvision, name, classes, size)
    if head == "torchvision":
        raise TaskError(f"--net {text}: torchvision has no such network for classification{nearest(name, known)}")
    return _of_timm(name, classes, known, text)


def _of_torchvision(name: str, classes: int, size: tuple[int, int]) -> nn.Module:
    more = WITHOUT_AUXILIARY.get(name, {})
    if name.startswith("vit_") and size[0] == size[1]:
        more = {"image_size": size[0]}
    return models.get_model(name, weights=None, num_classes=classes, **more)


def _of_timm(name: str, classes: int, known: list[str], text: str) -> Callable[[], nn.Module]:
    """A network of timm's, which is an optional package; `known` are torchvision's names, of which it is none."""
    try:
        from timm import list_models  # a folder that happens to be called timm has none
    except ImportError:
        if text.startswith("timm:"):
            raise TaskError(f"--net {text}: the package timm is not installed; pip install timm") from None
        missing = ", and timm, which has more, is not installed"
        raise TaskError(f"--net {text}: torchvision has no such network{missing}{nearest(name, known)}") from None
    theirs = list_models()
    if name.partition(".")[0] not in theirs:
        names = "neither torchvision nor timm has" if known else "timm does not have"
        raise TaskError(f"--net {text}: {names} such a network{nearest(name, sorted({*known, *theirs}))}")
    # structure alone does not tell two of its networks apart for sure, so the name is part of the fingerprint
    return Coded(partial(_made_by_timm, name, classes), f"timm:{name}")


def _made_by_timm(name: str, classes: int) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=classes)


def _from_file(file: str, name: str, classes: int) -> Coded:
    """What a function, or a class of networks, in a file makes; its code is part of the task's fingerprint."""
    path = user_path(file).absolute()
    if not path.is_file():
        raise TaskError(f"--net {file}:{name}: {path} does not exist")
    module = _module(path)
    own = {n: v for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__}
    if name not in own:
        text = f"it has {', '.join(own)}" if own else "it defines no function at its top level"
        raise TaskError(f"--net {file}:{name}: {path.name} has no function {name!r}; write FILE.py:function, {text}")
    named = _named(own[name], classes, f"--net {file}:{name}")
    return Coded(partial(_called, own[name], named), Coded.of(own[name], f"--net {path}").code)


def _module(path: Path) -> ModuleType:
    """The imported file, under a name that box.py sends along to other machines."""
    name = f"task_net_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # its neighbours, behind all that is installed
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the owner's code raises
        raise TaskError(f"--net: {path} cannot be imported ({type(error).__name__}: {error})") from error
    return module


def _named(function: Callable, classes: int, where: str) -> dict[str, int]:
    """The number of classes as the function takes it; raises TaskError if it needs anything else."""
    parameters = inspect.signature(function).parameters.values()
    takes = [p for p in parameters if p.name == "num_classes" or p.kind is p.VAR_KEYWORD]
    given = {"num_classes": classes} if takes else {}
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in kinds and p.name not in given]
    if needed:
        raise TaskError(f"{where} is called with num_classes or with nothing, but it needs {', '.join(needed)} too")
    return given


def _called(function: Callable, named: dict[str, int]) -> nn.Module:
    net = function(**named)
    if not isinstance(net, nn.Module):
        raise TaskError(f"--net: {function.__name__} gives a {type(net).__name__}, no network (torch.nn.Module)")
    return net
