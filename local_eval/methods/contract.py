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
import __future__

import ast
import contextlib
import functools
import importlib.util
import inspect
import linecache
import re
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, ModuleType

import torch
from torch import Tensor, nn

from local_eval.methods.handover import ended, stop_tracing
from local_eval.methods.misread import Uncompiled, misread, reported_at_once
from local_eval.methods.other_projects import lines_for, lines_of_pairs
from local_eval.methods.signature import SIGNATURE, SignatureError, check_signature, functions_named
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import COMMON, Submission, source_files
from local_eval.store.files import KIT
from local_eval.store.states import CheckpointError

# What a person may give in the place of a zip or folder of checkpoints, and what to do with it, in one sentence.


BEGINNINGS = {  # what a file is by its first bytes, whatever its name
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x1f\x8b": "a gzip archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"BZh": "a bzip2 archive",
    b"\x28\xb5\x2f\xfd": "a zstandard archive",
}
TAR, TAR_AT = b"ustar", 257
SINGLE = (".pth", ".pt", ".ckpt", ".safetensors")


def check_container(path: Path) -> None:
    """Raise CheckpointError for what is neither a zip nor a folder, with what to do."""
    try:
        with open(path, "rb") as file:
            beginning = file.read(TAR_AT + len(TAR))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; give a zip or a folder of checkpoints") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    kind = next((kind for start, kind in BEGINNINGS.items() if beginning.startswith(start)), None)
    if beginning[TAR_AT:] == TAR:
        kind = "a tar archive"
    if kind:
        raise CheckpointError(f"{path} is {kind}; unpack it into a folder and give that folder")
    if path.name.lower().endswith(SINGLE) or _is_torchs(path):
        raise CheckpointError(f"{path} is a single checkpoint; a score needs 16 or more: give a folder or zip of them")


def _is_torchs(path: Path) -> bool:
    """Did torch.save write it? That is a zip too."""
    try:
        with zipfile.ZipFile(path) as archive:
            first = archive.infolist()[:1]
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False
    return bool(first) and first[0].header_offset == 0 and first[0].filename.endswith("/data.pkl")


# Import a submission's code, and say in one sentence, with the line, what goes wrong in it.
#
# A notebook's cells are compiled one by one, so that a traceback names the cell and shows its lines.


PIP_NAMES = {
    "sklearn": "scikit-learn", "cv2": "opencv-python", "PIL": "Pillow", "yaml": "PyYAML", "skimage": "scikit-image",
    "bs4": "beautifulsoup4", "dateutil": "python-dateutil", "attr": "attrs", "pl_bolts": "lightning-bolts",
    "pytorch_lightning": "pytorch-lightning", "torch_optimizer": "torch-optimizer", "umap": "umap-learn",
    "google": "protobuf", "OpenSSL": "pyOpenSSL", "Levenshtein": "python-Levenshtein", "dotenv": "python-dotenv",
    "imblearn": "imbalanced-learn", "sentence_transformers": "sentence-transformers", "ot": "POT",
}  # fmt: skip
COMMAND_LINE = {"parse_args", "parse_known_args"}
QUIET = {"filterwarnings", "simplefilter", "manual_seed", "seed", "manual_seed_all", "basicConfig", "append", "insert"}
REMEDY = "move it into unlearning() or delete it"
MOST_FILES = 200  # beside a submission, that are looked into for a name
LONGEST = 70  # characters of a statement that are shown
BLOCKS = (ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith)


def execute(submission: Submission, module: ModuleType) -> None:
    """Run the submission's code in `module`.

    Raises:
        SubmissionError: it reads a command line or needs Jupyter.
        BaseException: whatever it raises.
    """
    tree = submission.tree()
    refuse_command_line(submission, tree)
    sys.argv = [str(submission.path)]  # the grader's own options are not the submission's
    for code in _codes(submission, tree):
        exec(code, module.__dict__)


def _codes(submission: Submission, tree: ast.Module) -> Iterator[CodeType]:
    name, book, flags = str(submission.path), submission.notebook(), _future_flags(tree)
    text = submission.source()
    if book is None:
        _show_in_tracebacks(name, text)
        yield compile(tree, name, "exec", flags, dont_inherit=True)
        return
    lines, cells = text.split("\n"), {}
    for node in tree.body:
        cells.setdefault(book.cell_of(node.lineno)[0], []).append(node)
    for number, nodes in cells.items():
        start = book.starts[number - 1]
        _show_in_tracebacks(f"{name}, code cell {number}", "\n".join(lines[start - 1 :]))
        body = [ast.increment_lineno(node, 1 - start) for node in nodes]
        yield compile(ast.Module(body, []), f"{name}, code cell {number}", "exec", flags, dont_inherit=True)


def _future_flags(tree: ast.Module) -> int:
    names = [a.name for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__" for a in n.names]
    flags = 0
    for name in names:
        flags |= getattr(__future__, name).compiler_flag if hasattr(__future__, name) else 0
    return flags


def _show_in_tracebacks(name: str, text: str) -> None:
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


def reported(submission: Submission, error: BaseException, importing: bool) -> SubmissionError | None:
    """One sentence for an error that came out of the submission's code; None if its traceback tells more."""
    where, line = _last_line(submission, error, first=importing)
    if isinstance(error, ImportError) and "relative import" in str(error):
        return SubmissionError(f"{where}: `{line}` needs a file beside it; a submission is one file: copy what it uses")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return SubmissionError(f"{where}: {missing_module(submission.path, error.name)}")
    if isinstance(error, NameError) and (beside := _defined_beside(submission.path, error.name)):
        text = f"{error.name} is defined in {beside.name}, a file beside it; a submission is one file: append"
        return SubmissionError(
            f"{where}: `{line}`: {text} these lines to a copy of {beside.name}, or copy what they use"
        )
    if not importing:
        return None
    if isinstance(error, SystemExit):
        what = f"the submission called exit({error.code!r}), or a command line's parser did"
    else:
        what = f"{type(error).__name__}: {error}"
    line = f"`{line}`" if line else "something"
    return SubmissionError(f"{where}: {line} runs when the file is imported and failed: {what}; {REMEDY}, or mend it")


def missing_module(path: Path, name: str) -> str:
    """What to do about a module that is not there."""
    root = name.split(".")[0]
    if (path.parent / f"{root}.py").is_file() or (path.parent / root / "__init__.py").is_file():
        return f"imports {name}, a file beside it; a submission is one file: copy what it uses into it"
    if root != name and root in sys.modules:
        version = getattr(sys.modules[root], "__version__", None)
        return f"imports {name}, which the installed {root}{f' {version}' if version else ''} does not have"
    return f"imports {name}, a package that is not installed here: pip install {PIP_NAMES.get(root, root)}"


def _defined_beside(path: Path, name: str | None) -> Path | None:
    """The file of Python in the same folder that defines a name at its top level, if it is the only one."""
    files = [file for file in sorted(path.parent.glob("*.py"))[:MOST_FILES] if file != path]
    pattern = re.compile(
        rf"^(?:def|class|async def) {re.escape(name or '-')}\b|^{re.escape(name or '-')}\s*=[^=]", re.M
    )
    found = []
    for file in files:
        with contextlib.suppress(OSError):
            if pattern.search(file.read_text(errors="replace")):
                found.append(file)
    return found[0] if len(found) == 1 else None


def _last_line(submission: Submission, error: BaseException, first: bool) -> tuple[str, str]:
    """Where in the submission's own code an error comes from, and the line; `first` means the top level's."""
    path, found = str(submission.path), []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == path or frame.filename.startswith(f"{path}, code cell "):
            found.append(frame)
    if not found:
        return path, ""
    frame = found[0] if first else found[-1]
    line = linecache.getline(frame.filename, frame.lineno).strip()
    return f"{frame.filename}, line {frame.lineno}", line[:LONGEST]


def refuse_command_line(submission: Submission, tree: ast.Module) -> None:
    """Raise SubmissionError where code at the top level reads a command line, or anything asks for Jupyter."""
    for call in _calls_at_import(tree.body):
        if _called(call) in COMMAND_LINE and not call.args and not call.keywords:
            text = f"{_called(call)}() reads the command line, which is not the submission's here or on Kaggle"
            where = submission.place(call.lineno)
            raise SubmissionError(f"{submission.path}, {where}: {text}; write the values as constants in capitals")
    for node in (n for n in tree.body if isinstance(n, ast.Expr)):  # what nbconvert makes of magics
        if any(_called(call) == "get_ipython" for call in _calls_at_import([node])):
            text = "get_ipython() exists in a notebook only; delete the line, or give the .ipynb file itself"
            raise SubmissionError(f"{submission.path}, {submission.place(node.lineno)}: {text}")


def work_at_import(submission: Submission) -> list[str]:
    """Remarks on work at the top level, which is done anew for every run here and once on Kaggle."""
    remarks, lines = [], submission.source().split("\n")
    for node in submission.tree().body:
        if isinstance(node, BLOCKS) or (isinstance(node, ast.Expr) and _is_work(node.value)):
            shown = lines[node.lineno - 1].strip()[:LONGEST]
            text = f"`{shown}` runs when the file is imported, anew for every run here and once on Kaggle"
            remarks.append(f"{submission.place(node.lineno)}: {text}; {REMEDY}")
    return remarks


def _is_work(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and _called(value) not in QUIET


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _calls_at_import(body: list[ast.stmt]) -> Iterator[ast.Call]:
    """Calls that an import makes itself: not those in functions, nor behind `if __name__ == "__main__":`."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or _is_main(node):
            continue
        if isinstance(node, ast.Call):
            yield node
        waiting += ast.iter_child_nodes(node)


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test))


# What `unlearning` returned: a result that is not in `net` would be lost, so it is refused with the line to add.
#
# Wrappers of other projects hold the net under a name of their own: an AveragedModel and DataParallel under `module`,
# a compiled net under `_orig_mod`. The line names the part whose tensors fit, so that it works as it is printed.


State = Mapping[str, Tensor]
COUNTERS = {"n_averaged"}  # what wrappers keep beside the net's tensors


def check_returned(net: nn.Module, returned: object, original: State) -> None:
    """Raise SubmissionError if the result is in a net or a state dict that was returned, and not in `net`."""
    if inspect.isawaitable(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        raise SubmissionError(
            f"unlearning() returned a {type(returned).__name__}, which nobody runs, here or on Kaggle; do the work "
            "before it returns"
        )
    parts = list(_parts(returned))
    if returned is not None and not _is_looked_into(returned) and _holds(net, original):
        parts += [(f"new.{name}", value) for name, value in _own(returned).items() if _is_looked_into(value)]
    for name, part in parts:
        lost = ""
        if isinstance(part, nn.Module):
            lost = _lost_module(net, name, part)
        elif isinstance(part, Mapping):
            lost = _lost_state(net, part)
        if lost:
            raise SubmissionError(f"unlearning() returned {lost}. Only the net passed in is graded, here and on Kaggle")


def _lost_module(net: nn.Module, name: str, module: nn.Module) -> str:
    """What is lost with a module, and the line that saves it; empty if nothing is."""
    if _shares(net, module):
        return ""
    found = _part_that_fits(net, module)
    if found is not None:
        if _holds(net, found[1].state_dict()):
            return ""
        mend = f"net.load_state_dict({name}{_dotted(found[0])}.state_dict())"
        return f"another module, so the result would be lost: end with {mend}"
    if _holds(net, module.state_dict()):
        return ""
    mend = f"net.load_state_dict({name}.state_dict())"
    return (
        f"another module, so the result would be lost: end with {mend}, from a module with the net's names and shapes"
    )


def _part_that_fits(net: nn.Module, module: nn.Module) -> tuple[str, nn.Module] | None:
    """The module itself, or the part of it, whose tensors have the net's names and shapes; where it is in it."""
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    for place, part in module.named_modules():
        if {name: value.shape for name, value in part.state_dict().items()} == shapes:
            return place, part
    return None


def _dotted(place: str) -> str:
    """`.module.0` as Python writes it."""
    names = place.split(".") if place else []
    return "".join(f"[{name}]" if name.isdigit() else f".{name}" for name in names)


def _lost_state(net: nn.Module, state: Mapping[object, object]) -> str:
    """What is lost with a state dict, and the lines that save it; empty if nothing is, or it is none."""
    own, prefix = net.state_dict(), _prefix(net, state)
    plain = {str(name).removeprefix(prefix): value for name, value in state.items() if name not in COUNTERS}
    if not plain or not plain.keys() <= own.keys() or _holds(net, plain):
        return ""
    first = ""
    if prefix or len(plain) < len(state):
        inner = (
            f"k.removeprefix({prefix!r}): v for k, v in state.items()" if prefix else "k: v for k, v in state.items()"
        )
        first = f"state = {{{inner} if k not in {COUNTERS}}}; "
    first += "state = {**net.state_dict(), **state}; " if plain.keys() < own.keys() else ""
    text = "a state dict that `net` does not hold, so the result would be lost: end with "
    return f"{text}{first}net.load_state_dict(state)"


def _prefix(net: nn.Module, state: Mapping[object, object]) -> str:
    """What wrappers write before the net's names, such as 'module.', 'module._orig_mod.', 'ema_model.'."""
    names = [str(name) for name in state if name not in COUNTERS]
    for own in net.state_dict():
        for name in names:
            before = name.removesuffix(own)
            if name.endswith(f".{own}") and all(other.startswith(before) for other in names):
                return before
    return ""


def _shares(net: nn.Module, other: nn.Module) -> bool:
    """Is one inside the other, by their parameters? So is a net in DataParallel or torch.compile."""
    ours, theirs = ({id(p) for p in module.parameters()} for module in (net, other))
    return ours <= theirs or theirs <= ours


def _is_looked_into(value: object) -> bool:
    return isinstance(value, nn.Module | tuple | list | Mapping)


def _own(value: object) -> dict[str, object]:
    """What an object of the submission's own keeps, such as an average's `shadow`."""
    return dict(getattr(value, "__dict__", {}))


def _parts(returned: object, name: str = "new") -> Iterator[tuple[str, object]]:
    """What was returned, and what is in it if it is a list, tuple or dict of things; each is called `new`."""
    yield name, returned
    inside = returned if isinstance(returned, tuple | list) else ()
    inside = returned.values() if isinstance(returned, Mapping) else inside
    for part in inside:
        if _is_looked_into(part):
            yield from _parts(part, name)


def _holds(net: nn.Module, state: Mapping[object, object]) -> bool:
    """Does the net hold these very values?"""
    own, state = net.state_dict(), {_plain_name(name): value for name, value in state.items() if name not in COUNTERS}
    return state.keys() <= own.keys() and all(
        isinstance(value, torch.Tensor) and value.shape == own[k].shape and torch.equal(value.to(own[k]), own[k])
        for k, value in state.items()
    )


def _plain_name(name: object) -> str:
    return re.sub(r"^((module|_orig_mod)\.)+", "", str(name))


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
    if str(KIT) not in sys.path:  # for the workers of a submission's own DataLoader, where processes are not forked
        sys.path.insert(0, str(KIT))
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
        raise reported(submission, error, importing=True) from error


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
            with uncompiled, reported_at_once(module_name(submission.path)):
                # A tracer that it has left would be called while these end, and break that.
                return ended(functools.partial(function, *arguments), stop_tracing)
        except (ModuleNotFoundError, NameError) as error:
            raise reported(submission, error, importing=False) or error from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] == "common":
                raise SubmissionError(f"{submission.path}: {error}") from error
            if text := misread(submission.path, error):
                raise SubmissionError(text + _adapted(submission, error)) from error
            raise
        finally:
            unlearning.reported = uncompiled.reported

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
