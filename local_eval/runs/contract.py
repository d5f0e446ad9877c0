"""The contract between a submission and the grader. This page is the authority.

A submission is one file, or a notebook (.ipynb), with

    def unlearning(net, retain_loader, forget_loader, val_loader):

What you get
    net             the original model, already on the device to use (`next(net.parameters()).device`): a torchvision
                    resnet18 in the competition, here whatever network the task has; common/roles.py finds its first
                    and last layers, its norms and shortcuts. On Kaggle one net object serves all 512 runs, so it is in
                    train mode in run 0 and in whatever mode you left it afterwards (eval, here) in the rest: call
                    `net.train()` and `net.eval()` yourself.
    retain_loader   training examples to keep;   forget_loader   training examples to forget;
    val_loader      examples never trained on.
                    They are handed over by place: other names are fine, unless a name is known for another place.
                    Shuffled, batches of 64, dicts with `image` (float32 [B, 3, H, W], raw 0-255 pixels in the
                    competition; other tasks may have other channels), `image_id`, `age_group` (the class, int64),
                    `age`, `person_id`. Wrap `loader.dataset` in a DataLoader of your own for another batch size,
                    sampler or collation.
                    `loader.dataset.examples` is the list of rows, as in the competition, with uint8 images;
                    `.targets` is the list of classes, which the official data set lacks and an exported notebook has.

What you must do
    * Edit `net` in place. What you return is ignored, on Kaggle and here; a new net that is returned is refused.
    * Leave a state dict with the same names and shapes, all values finite.
    * Be random: the graders compare the spread of N runs with that of N retrained models, and a deterministic method
      scores 0. Every run is seeded from (seed, run number), for torch, numpy and random.
    * Finish in time: all 512 runs had 8 hours on one Kaggle GPU, 56.25 s each.

What you may not assume
    * that anything survives from one run to the next: the file, and `common`, are imported anew for every run;
    * where batches lie. With a GPU, the grader's are on it already, so move them with `.to(device)`, take `.cpu()`
      before `.numpy()`, and do not ask a DataLoader of your own for `pin_memory`;
    * a run number, the internet, the repository's files, or packages beyond torch, torchvision, numpy, pandas, the
      standard library and `common`;
    * that `image_id`, `age` and `person_id` mean more than they do in the competition.
    You may not change the data of the loaders in place: the run is then thrown away.

How to check a file: python -m local_eval check my_method.py
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from local_eval.runs.adapters import lines_for, lines_of_pairs
from local_eval.runs.eager import Uncompiled
from local_eval.runs.handover import ended, stop_tracing
from local_eval.runs.imported import execute, told
from local_eval.runs.misread import misread
from local_eval.runs.returned import check_returned
from local_eval.runs.signature import SIGNATURE, SignatureError, check_signature, functions_named
from local_eval.runs.spawned import told_at_once
from local_eval.runs.submissions import COMMON, ROOT, Submission, SubmissionError, source_files


def load_submission(submission: Submission) -> Callable:
    """Import the file or notebook anew, with its settings, and return its `unlearning`.

    Raises:
        SubmissionError: it does not parse, cannot be imported, has no such function, or one with another signature.
    """
    path = submission.path
    _import_common(submission)
    spec = importlib.util.spec_from_loader(module_name(path), loader=None, origin=str(path))
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    _execute(submission, module)
    function = getattr(module, "unlearning", None)
    if not callable(function):
        raise SubmissionError(f"{path}: no function {SIGNATURE}; {functions_named(submission.tree())}")
    try:
        check_signature(function, path)
    except SignatureError as error:
        lines = lines_for(submission.tree())
        raise SignatureError(f"{error}; {lines}") if lines else error from None
    return function


def module_name(path: Path) -> str:
    """What the module that is made of a submission's file is called."""
    return f"submission_{path.stem}"


def _import_common(submission: Submission) -> None:
    """Import `common` anew, so that nothing kept there survives; by its place: the sandbox hides the kit's folder."""
    if str(ROOT) not in sys.path:  # for the workers of a submission's own DataLoader, where processes are not forked
        sys.path.insert(0, str(ROOT))
    for name in [n for n in sys.modules if n.split(".")[0] == "common"]:
        del sys.modules[name]
    if COMMON / "__init__.py" not in source_files(submission.path):
        return
    spec = importlib.util.spec_from_file_location("common", COMMON / "__init__.py")
    sys.modules["common"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def _execute(submission: Submission, module: object) -> None:
    try:
        execute(submission, module)
    except (SubmissionError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise told(submission, error, importing=True) from error


def load_telling(submission: Submission) -> Callable:
    """As `load_submission`, for a run: what goes wrong in it, and is known, is told in one sentence.

    That is a missing package, a batch taken for something else, a class of its own sent to a spawned process, and what
    `common` raises in words of its own: that a method means nothing on this network. torch.compile is passed over;
    `told`, an attribute of the function, is a list that says so if it was called.
    """
    uncompiled = Uncompiled()
    with uncompiled:
        function = load_submission(submission)

    @functools.wraps(function)
    def unlearning(*arguments: object) -> object:
        try:
            with uncompiled, told_at_once(module_name(submission.path)):
                # A tracer that it has left would be called while these end, and break that.
                return ended(functools.partial(function, *arguments), stop_tracing)
        except (ModuleNotFoundError, NameError) as error:
            raise told(submission, error, importing=False) or error from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] == "common":
                raise SubmissionError(f"{submission.path}: {error}") from error
            if text := misread(submission.path, error):
                raise SubmissionError(text + _adapted(submission, error)) from error
            raise
        finally:
            unlearning.told = uncompiled.told

    return unlearning


def _adapted(submission: Submission, error: Exception) -> str:
    """The lines that help where a batch was taken for (images, labels), and not just a key misnamed."""
    pairs = isinstance(error, ValueError) or isinstance(error, KeyError) and isinstance(error.args[0], int)
    lines = lines_of_pairs(submission.tree()) if pairs and not isinstance(error, SubmissionError) else ""
    return f"; {lines}" if lines else ""


def check_result(net: nn.Module, returned: object, original: dict[str, torch.Tensor]) -> None:
    """What must hold of a net after `unlearning`.

    Raises:
        SubmissionError: another net was returned, names or shapes changed, or a value is not finite.
    """
    check_returned(net, returned, original)
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
    if unreal := [name for name, value in state.items() if value.is_meta]:
        raise SubmissionError(f"the net is on the device meta, where {unreal[0]} has no values; leave it where it was")
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise SubmissionError(
            f"the net holds NaN or infinite values in {', '.join(broken[:4])}: lower the learning rate?"
        )
