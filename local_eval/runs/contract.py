"""The contract between a submission and the grader. This page is the authority.

A submission is one file with

    def unlearning(net, retain_loader, forget_loader, val_loader):

What you get
    net             the original model: a torchvision resnet18 (or a network with its module names), already on the
                    device to use (`next(net.parameters()).device`). On Kaggle one net object serves all 512 runs, so
                    it is in train mode in run 0 and in whatever mode you left it afterwards (eval, here) in the rest:
                    call `net.train()` and `net.eval()` yourself.
    retain_loader   training examples to keep;   forget_loader   training examples to forget;
    val_loader      examples never trained on.
                    Shuffled, batches of 64, dicts with `image` (float32 [B, 3, H, W], raw 0-255 pixels in the
                    competition), `image_id`, `age_group` (the class, int64), `age`, `person_id`. Wrap
                    `loader.dataset` in a DataLoader of your own for another batch size.

What you must do
    * Edit `net` in place. What you return is ignored, on Kaggle and here.
    * Leave a state dict with the same names and shapes, all values finite.
    * Be random: the graders compare the spread of N runs with that of N retrained models, and a deterministic method
      scores 0. Every run is seeded from (seed, run number), for torch, numpy and random.
    * Finish in time: all 512 runs had 8 hours on one Kaggle GPU, 56.25 s each.

What you may not assume
    * that anything survives from one run to the next: the file, and `common`, are imported anew for every run;
    * where batches lie. With a GPU, the grader's are on it already, so move them with `.to(device)`, take `.cpu()`
      before `.numpy()`, and do not ask a DataLoader of your own for `pin_memory` or `num_workers`;
    * a run number, the internet, the repository's files, or packages beyond torch, torchvision, numpy, pandas, the
      standard library and `common`;
    * that `image_id`, `age` and `person_id` mean more than they do in the competition.
    You may not change the data of the loaders in place: the run is then thrown away.

How to check a file: python -m local_eval check my_method.py
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from local_eval.runs.submissions import ROOT, Submission, SubmissionError

ARGUMENTS = ("net", "retain_loader", "forget_loader", "val_loader")
SIGNATURE = f"unlearning({', '.join(ARGUMENTS)})"


def load_submission(submission: Submission) -> Callable:
    """Import the file anew, with its settings, and return its `unlearning`.

    Raises:
        SubmissionError: it does not parse, has no such function, or one with another signature.
        Exception: whatever its import raises.
    """
    path = submission.path
    if str(ROOT) not in sys.path:  # for `import common`
        sys.path.insert(0, str(ROOT))
    for name in [n for n in sys.modules if n.split(".")[0] == "common"]:
        del sys.modules[name]  # imported anew as well, so that nothing kept there survives
    spec = importlib.util.spec_from_file_location(f"submission_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    exec(compile(submission.source(), str(path), "exec"), module.__dict__)
    function = getattr(module, "unlearning", None)
    if not callable(function):
        raise SubmissionError(f"{path}: no function {SIGNATURE}; define it at the top level")
    _check_signature(function, path)
    return function


def _check_signature(function: Callable, path: Path) -> None:
    try:
        inspect.signature(function).bind(*ARGUMENTS)
    except TypeError as error:
        found = f"unlearning{inspect.signature(function)}"
        raise SubmissionError(f"{path}: {found} cannot be called as {SIGNATURE}: {error}") from error


def check_result(net: nn.Module, returned: object, original: dict[str, torch.Tensor]) -> None:
    """What must hold of a net after `unlearning`.

    Raises:
        SubmissionError: another module was returned, names or shapes changed, or a value is not finite.
    """
    if isinstance(returned, nn.Module) and returned is not net:
        raise SubmissionError(
            "unlearning() returned another module. Only the net passed in is graded, so the result would be lost: "
            "edit it in place, for instance with net.load_state_dict(other.state_dict())"
        )
    state = net.state_dict()
    wrong = sorted(state.keys() ^ original.keys())
    for name in sorted(state.keys() & original.keys()):
        if state[name].shape != original[name].shape:
            wrong.append(f"{name} {tuple(original[name].shape)} -> {tuple(state[name].shape)}")
    if wrong:
        raise SubmissionError(
            f"the state dict no longer fits the original network: {', '.join(wrong[:4])}. "
            "Keep the layers' names and shapes: change weights, do not replace layers or leave wrappers behind"
        )
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise SubmissionError(
            f"the net holds NaN or infinite values in {', '.join(broken[:4])}: lower the learning rate?"
        )
