"""A graded method as one file for others: written with all that verifies it, read with mistrust, scored anew.

    READ_ME.txt               what this is and how to open it
    contents.json             format, versions, the method's name, which files its runs read, checksums of the rest
    report.html               the page, without images
    method.py  common/*.py    the source that ran, with constants as they were changed, and what it uses of the kit
    score.json                the score
    runs.npz  oracles.npz     the records of all runs and of all oracles, and of the original model:
    original_evaluation.npz     logits of the forget set, accuracies, controls
    labels.npz                labels of the four sets, persons and image numbers of the forget set; no images
    original.npz              with --weights: the original model, from which a run can be made again

That is what a score is computed from, so whoever has the file needs neither the task's data nor trust in its figures.
No file can prove that the runs are this method's: that shows when one is made again, which runs foreign code.

How it is used: `read_shared(path)`; python -m local_eval open my_method-digits-N64.zip
"""

from __future__ import annotations

import ast
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from local_eval.methods.settings import constants, label
from local_eval.methods.source import NOT_PYTHON
from local_eval.metric.score import LEAST_RUNS
from local_eval.oracles.oracles import pool_in
from local_eval.report.page.method import MethodText
from local_eval.report.result import Result
from local_eval.store.errors import many
from local_eval.store.for_others import CONTENTS, SharedError, unpack
from local_eval.store.records import SPLITS, Evaluation, Record, RecordError
from local_eval.store.sealed import DamagedFile, unseal_bytes
from local_eval.tasks.evaluate import CONTROLS
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

KIND = "graded method"
README, PAGE, METHOD, COMMON, SCORE = "READ_ME.txt", "report.html", "method.py", "common/", "score.json"
RUNS, ORACLES, ORIGINAL, LABELS, WEIGHTS = (
    "runs.npz", "oracles.npz", "original_evaluation.npz", "labels.npz", "original.npz",
)  # fmt: skip
NEEDED = {README, PAGE, METHOD, SCORE, RUNS, ORACLES, ORIGINAL, LABELS}
OF_COMMON = re.compile(r"common/(?:\w+/)*\w+\.py", re.ASCII)
GROWS, SPARE = 4, 1 << 28  # arrays take at most so many times their bytes, and so many bytes beside that
MOST_RUNS, MOST_CLASSES = 1 << 16, 1 << 16
LONGEST_LINE = 1000  # characters of a text that is told in a terminal
# What is told in score.json beside what is computed from the records, and used.
TOLD = {
    "submission": str, "task": str, "task_spec": str, "when": str, "kit": dict, "settings": dict, "made_from": dict,
    "original": dict, "untold": list, "notes": list, "missing_runs": list, "runs": int, "seed": int, "originals": int,
}  # fmt: skip
TEXTS = ("kit", "settings", "untold", "notes")  # whose values are texts
IDENTITY = {"kind": str, "task": str, "submission": str, "original": str, "seed": int}  # of all runs
UNUSABLE = (TypeError, ValueError, KeyError, IndexError, ArithmeticError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Shared:
    """A shared file as it was read: whole, of one piece, and not yet scored."""

    path: Path
    contents: dict
    method: MethodText
    result: Result  # as the file tells it
    runs: dict[int, Record]
    pool: list[Record]
    original: Record
    task: Task  # its labels; it has no images, and its network is none
    weights: bytes | None  # of the original model
    page: str

    @property
    def label(self) -> str:
        """How the method is shown: 'mine[EPOCHS=3]'."""
        return self.result["submission"]

    @property
    def fingerprint(self) -> str:
        """Of the task."""
        return self.result["made_from"]["task"]

    @property
    def labels(self) -> np.ndarray:
        """int64 [E]: of the forget set."""
        return self.task.forget.labels.numpy()


def read_shared(path: Path) -> Shared:
    """What is in a shared file, with everything verified that does not take a score: checksums, source, identities.

    Raises:
        SharedError: it cannot be read, or its parts do not belong together; nothing of it was executed.
    """
    path = Path(path)
    contents, members = unpack(path, KIND, lambda name: name in NEEDED | {WEIGHTS} or bool(OF_COMMON.fullmatch(name)))
    return parsed(path, contents, members)


def parsed(path: Path, contents: dict, members: Mapping[str, bytes]) -> Shared:
    """What members hold, verified as by `read_shared`; `path` names them in errors. Raises SharedError."""
    if gone := sorted(NEEDED - members.keys()):
        raise SharedError(f"{path} has no {gone[0]}")
    try:
        _check_contents(contents)
        result = _result_in(members[SCORE])
        method = _method_in(contents["method"], members, result)
        task = _task_in(contents["task"], members[LABELS], result["task"])
        runs, pool, original = _records_in(members, result, task)
        if WEIGHTS in members:
            unseal_bytes(members[WEIGHTS], WEIGHTS, _most(members[WEIGHTS]))
        page_there = members[PAGE].decode()
    except (RecordError, DamagedFile, SharedError) as error:
        raise SharedError(f"{path}: {error}") from error
    except UNUSABLE as error:
        raise SharedError(f"{path} is no shared grading that can be used ({type(error).__name__}: {error})") from error
    return Shared(path, contents, method, result, runs, pool, original, task, members.get(WEIGHTS), page_there)


def _check_contents(contents: dict) -> None:
    method, task, larger = contents["method"], contents["task"], contents["larger"]
    texts = [method["name"], *method["changed"].values(), *contents["files_named"], *task["notes"]]
    texts += [*method["reads"]["files"], *method["reads"]["variables"]]
    texts += [text for key, text in contents["made_with"].items() if key != "kit"]
    _must(all(map(_is_line, texts)), CONTENTS, "texts that are no plain lines")
    _must(isinstance(larger, int | None), CONTENTS, "a number of models that is none")


def _is_line(text: object) -> bool:
    """A text that stays in its line of a terminal, and so cannot pass for something that the kit says."""
    return isinstance(text, str) and text.isprintable() and len(text) <= LONGEST_LINE


def _must(holds: bool, name: str, otherwise: str) -> None:
    if not holds:
        raise SharedError(f"{name} has {otherwise}")


def _result_in(content: bytes) -> Result:
    result = Result.from_json(content.decode())
    for key, kind in TOLD.items():
        _must(isinstance(result[key], kind), SCORE, f"no {key} that can be used")
    for key in TEXTS:
        values = result[key].values() if isinstance(result[key], dict) else result[key]
        _must(all(isinstance(value, str) for value in values), SCORE, f"other things than texts in {key}")
    lines = [result[key] for key, kind in TOLD.items() if kind is str] + [result.get("torch"), result.get("hardware")]
    _must(all(map(_is_line, [*lines, *result["kit"].values(), *result["settings"].values()])), SCORE, "odd texts")
    identity, missing = result["made_from"], result["missing_runs"]
    _must(identity.keys() == {*IDENTITY, "index"} and identity["kind"] == "run", SCORE, "no identity of its runs")
    _must(all(isinstance(identity[key], kind) for key, kind in IDENTITY.items()), SCORE, "no identity of its runs")
    _must(identity["seed"] == result["seed"] and result["originals"] == 1, SCORE, "runs of several kinds")
    _must(LEAST_RUNS <= result["runs"] <= MOST_RUNS and len(missing) <= MOST_RUNS, SCORE, "no number of runs")
    _must(all(isinstance(k, int) for k in missing) and _numbers(result) is not None, SCORE, "no numbers of its runs")
    return result


def _numbers(result: Mapping) -> list[int] | None:
    """The numbers of the runs that were scored; None if those that are missing make no sense."""
    whole, missing = set(range(result["runs"] + len(result["missing_runs"]))), set(result["missing_runs"])
    return sorted(whole - missing) if missing <= whole and len(missing) == len(result["missing_runs"]) else None


def _method_in(about: Mapping, members: Mapping[str, bytes], result: Result) -> MethodText:
    common = {name.removeprefix(COMMON): text.decode() for name, text in members.items() if name.startswith(COMMON)}
    digest, settings = result["made_from"]["submission"], result["settings"]
    method = MethodText(about["name"], members[METHOD].decode(), digest, about["changed"], common)
    try:
        found, there = method.digest_of_text(), constants(ast.parse(method.source))
    except NOT_PYTHON as error:
        raise SharedError(f"{METHOD} cannot be read by Python {platform.python_version()} ({error})") from error
    _must(found == digest, METHOD, f"the hash {found}, and the runs were made from {digest}: it is not their source")
    for name, value in settings.items():
        _must(name in there and _same(there[name][-1], value), METHOD, f"not the value of {name} that {SCORE} says")
    _must(set(about["changed"]) == set(settings), CONTENTS, "other constants than were changed")
    expected = label(PurePosixPath(method.name).stem, tuple(settings.items()))
    _must(result["submission"] == expected, SCORE, f"another name than the method, {expected}")
    return method


def _same(node: ast.expr, value: str) -> bool:
    """Is an expression what a setting says? Neither is worked out."""
    return ast.unparse(node) == ast.unparse(ast.parse(value, mode="eval").body)


def _most(content: bytes) -> int:
    return GROWS * len(content) + SPARE


def _task_in(about: Mapping, content: bytes, name: str) -> Task:
    """The labels of a task, as one; raises SharedError."""
    arrays, _ = unseal_bytes(content, LABELS, _most(content))
    classes = about["classes"]
    _must(isinstance(classes, int) and 1 < classes <= MOST_CLASSES, CONTENTS, "no number of classes")
    _must(arrays.keys() == {*SPLITS, "persons", "images"}, LABELS, "other arrays than it should")
    for key, array in arrays.items():
        _must(array.dtype == np.int64 and array.ndim == 1 and len(array) > 0, LABELS, f"no numbers in {key}")
        _must(key not in SPLITS or bool(((array >= 0) & (array < classes)).all()), LABELS, f"no classes in {key}")
    examples = len(arrays["forget"])
    _must(len(arrays["persons"]) == len(arrays["images"]) == examples, LABELS, "arrays of different lengths")
    splits = {key: _split(arrays[key]) for key in SPLITS}
    own = {"person_id": torch.from_numpy(arrays["persons"]), "image_id": torch.from_numpy(arrays["images"])}
    splits["forget"] = replace(splits["forget"], **own)
    recipe = Recipe(epochs=1, lr=1.0, weight_decay=0.0)
    return Task(name, torch.nn.Identity, **splits, recipe=recipe, num_classes=classes, notes=tuple(about["notes"]))


def _split(labels: np.ndarray) -> Split:
    """Labels alone."""
    here, numbers = torch.from_numpy(labels), torch.arange(len(labels))
    return Split(torch.empty((len(labels), 1, 0, 0), dtype=torch.uint8), here, numbers, numbers, here)


def _records_in(
    members: Mapping[str, bytes], result: Result, task: Task
) -> tuple[dict[int, Record], list[Record], Record]:
    """Runs, oracles and the original model, each of which says that it is what it should be."""
    made_from, numbers = result["made_from"], _numbers(result)
    of_task = {"task": made_from["task"]}
    original = {"kind": "original", "original": made_from["original"]} | of_task
    identities: dict[str, Callable[[int], dict]] = {
        RUNS: lambda k: made_from | {"index": numbers[k]},
        ORACLES: lambda k: {"kind": "oracle", "index": k} | of_task,
        ORIGINAL: lambda k: original,
    }
    shape, found = (len(task.forget), task.num_classes), {}
    for name, identity in identities.items():
        found[name] = pool_in(members[name], name, identity, shape, _most(members[name]))
        for record in found[name]:
            _check_controls(record.evaluation, name, task)
    _must(len(found[RUNS]) == result["runs"], RUNS, f"{many(len(found[RUNS]), 'run')}, not {result['runs']}")
    _must(len(found[ORACLES]) >= result["runs"], ORACLES, f"{many(len(found[ORACLES]), 'oracle')}, too few")
    _must(len(found[ORIGINAL]) == 1, ORIGINAL, "not one model")
    return dict(zip(numbers, found[RUNS])), found[ORACLES], found[ORIGINAL][0]


def _check_controls(evaluation: Evaluation, name: str, task: Task) -> None:
    shares = (evaluation.retain_accuracy, evaluation.test_accuracy)
    _must(all(0 <= share <= 1 for share in shares), name, "accuracies that are no shares")
    if (kept := evaluation.controls) is not None:
        shapes = [(min(len(split), CONTROLS), task.num_classes) for split in (task.retain, task.test)]
        found = [kept.retain_logits.shape, kept.test_logits.shape, kept.right.shape]
        _must(found == [*shapes, (len(SPLITS), task.num_classes)], name, "controls of another task")
        _must(bool((kept.right >= 0).all()), name, "numbers of right answers that are none")
