"""Import a submission's code, and say in one sentence, with the line, what goes wrong in it.

A notebook's cells are compiled one by one, so that a traceback names the cell and shows its lines.

How it is used: `execute(submission, module)` and `told(...)` in runs/contract.py; `work_at_import` in runs/check.py.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import linecache
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType

from local_eval.runs.refusal import SubmissionError
from local_eval.runs.submissions import Submission

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


def told(submission: Submission, error: BaseException, importing: bool) -> SubmissionError | None:
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
