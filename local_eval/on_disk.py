"""What has been graded on a task, from the outputs folder alone: nothing is made, nothing is run.

A folder of runs counts if its records 0 to N - 1 are there and verify against what its score.json says they were made
from, and if that fits: the task's fingerprint, the original model, the seed. A score.json of the same N is taken as it
is; where there is none of this N, or of an earlier version of the kit, the score is computed anew and not kept.

How to see it: python -m local_eval leaderboard --task digits --runs 64
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from local_eval.grader import Grader, Named
from local_eval.methods.identity import Reads
from local_eval.methods.submission import Submission
from local_eval.metric.given import MetricError
from local_eval.metric.score import ScoreError, compute_score, confidences
from local_eval.oracles.oracles import load_pool
from local_eval.report.leaderboard import Entry, LeftOut
from local_eval.report.result import PAGE, Result, kept_at, of_the_same_models, read_score
from local_eval.runs.one_run import finished_runs
from local_eval.store.errors import InputError, many
from local_eval.store.records import Record, RecordError, record_path
from local_eval.store.sealed import DamagedFile, unseal

OTHER_SEED = "its runs have another seed: "
NEW = "interval_level"  # a field that score.json has since intervals cover another draw


@dataclass(frozen=True)
class Found:
    """A folder that can stand on the board, or why it cannot."""

    name: str
    folder: Path
    content: dict
    runs: dict[int, Record]
    reason: str = ""


def entries(grader: Grader, more: Sequence[Entry] = ()) -> tuple[list[Entry], list[LeftOut], np.ndarray]:
    """All that can be compared at the grader's N and seed; what is left out and why; oracles' confidences [N, E].

    Args:
        more: what stands on the board beside what is on disk.
    Raises:
        ScoreError: fewer oracles than N are on disk, or nothing can be compared.
    """
    oracles = oracles_there(grader)
    if len(oracles) < grader.runs:
        raise ScoreError(
            f"{many(len(oracles), 'oracle')} {'is' if len(oracles) == 1 else 'are'} in {grader.workspace.oracles}, the "
            f"board at N = {grader.runs} needs as many; train them: {grader.command('oracles', runs=grader.runs)}"
        )
    found = list(_of_one_device(_newest(list(_look(grader)))))
    rows, left_out = list(more), _reported_once([LeftOut(one.name, one.reason) for one in found if one.reason])
    labels, _ = grader.labels_and_persons
    for one in found:
        if not one.reason:
            try:
                result = _scored(grader, one, oracles)
                found_in = confidences(_in_order(one.runs), labels)
                rows.append(Entry(one.name, result, found_in, _official(one), _page(one.folder, grader.runs)))
            except MetricError as error:
                left_out.append(LeftOut(one.name, str(error)))
    if not rows:
        raise ScoreError(_nothing(grader, left_out))
    return rows, left_out, confidences(oracles[: grader.runs], labels)


def _reported_once(left_out: list[LeftOut]) -> list[LeftOut]:
    """A method that was graded with several other seeds is told in one line."""
    seeds: dict[str, list[str]] = {}
    for one in left_out:
        if one.reason.startswith(OTHER_SEED):
            seeds.setdefault(one.name, []).append(one.reason.removeprefix(OTHER_SEED))
    others = [one for one in left_out if not one.reason.startswith(OTHER_SEED)]
    return others + [LeftOut(name, OTHER_SEED + ", ".join(sorted(found, key=int))) for name, found in seeds.items()]


def oracles_there(grader: Grader) -> list[Record]:
    """Those in the outputs folder; if they are too few, those that come with the task, where they lie."""
    found, shipped = grader.cached_oracles(), grader.task.oracles
    if len(found) >= grader.runs or shipped is None or not shipped.exists():
        return found
    shape = len(grader.task.forget), grader.task.num_classes
    return load_pool(shipped, grader.oracle_identity, shape)


def _nothing(grader: Grader, left_out: list[LeftOut]) -> str:
    reported = "".join(f"\n  {one.name}: {one.reason}" for one in left_out)
    there = sorted(set(_graded_with(grader)), reverse=True)
    others = ", ".join(f"--runs {runs}" + (f" --seed {seed}" if seed else "") for runs, seed in there[:5])
    return (
        f"nothing in {grader.folder} has been graded at N = {grader.runs} with seed {grader.seed}; "
        f"{f'there is {others}' if others else 'give another --runs or --seed'}, or grade something: "
        f"{grader.command('grade', 'baseline_finetune', runs=grader.runs)}{reported}"
    )


def _graded_with(grader: Grader) -> Iterator[tuple[int, int]]:
    """N and seed of each score of the task; damaged ones are told of elsewhere."""
    for path in grader.folder.glob("*/score.json"):
        with contextlib.suppress(RecordError):
            found = read_score(path)
            if found.get("runs"):
                yield found["runs"], found.get("seed") or 0


def _look(grader: Grader) -> Iterator[Found]:
    """Every folder with a score or with runs."""
    for folder in sorted(path for path in grader.folder.glob("*") if path.is_dir()):
        try:
            content = read_score(folder / "score.json") if (folder / "score.json").exists() else _unscored(folder)
            if content:
                yield _verified(grader, folder, content)
        except RecordError as error:
            yield Found(folder.name, folder, {}, {}, str(error))


def _unscored(folder: Path) -> dict:
    """What a score.json would say of runs that were made but not scored; empty if there are none."""
    path = record_path(folder, 0)
    if not path.exists():
        return {}
    try:
        about = json.loads(str(unseal(path)[0]["about"]))
    except (DamagedFile, KeyError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from None
    identity, facts = about["identity"], about["facts"]
    if identity.get("kind") != "run":
        return {}
    stem, digest = folder.name.rpartition("-seed")[0], identity["submission"]
    name = stem.removesuffix(f"-{digest}")
    about = {"made_from": identity | {"index": None}, "device": facts.get("device"), "torch": facts.get("torch")}
    return about | {"submission": name if _digest(name) == digest else stem}


def _verified(grader: Grader, folder: Path, content: dict) -> Found:
    """Its runs, read and checked, or the reason why they cannot be compared."""
    name, made_from = str(content.get("submission", folder.name)), dict(content.get("made_from", {}))
    found = Found(name, folder, content, {})
    if made_from.get("kind") in ("checkpoints", "given"):
        return replace(found, reason="checkpoints that were made elsewhere leave no records to compare")
    if content.get("retrained"):
        return replace(found, reason="it was graded against retrained models that were given, not the task's oracles")
    expected = {"task": grader.fingerprint, "original": grader.original_hash()}
    for key, value in expected.items():
        if made_from.get(key) != value:
            return replace(found, reason=f"it was graded with another {key}")
    if made_from.get("seed") != grader.seed:
        return replace(found, reason=f"{OTHER_SEED}{made_from.get('seed')}")
    made_from.pop("out", None)
    return _with_runs(grader, found, made_from)


def _with_runs(grader: Grader, found: Found, identity: dict) -> Found:
    shape = len(grader.task.forget), grader.task.num_classes
    runs, missing = {}, []
    for index in range(grader.runs):
        try:
            run = grader.workspace.load(record_path(found.folder, index), identity | {"index": index}, shape)
        except FileNotFoundError:
            missing.append(index)
            continue
        if changes := Reads.from_json(run.facts.get("read", {})).changes():
            return replace(found, reason=f"{changes[0]} has changed since its runs read it")
        runs[index] = run
    if missing:
        return replace(found, reason=f"{len(runs)} of {grader.runs} runs are on disk")
    return replace(found, runs=runs)


def _newest(found: list[Found]) -> list[Found]:
    """Of several versions of one method's code, that of today's file, or else the one that was graded last."""
    kept: dict[str, Found] = {}
    for one in sorted(found, key=lambda one: (_is_todays(one), str(one.content.get("when", "")))):
        if not one.reason:
            kept[one.name] = one
    older = "another version of its code, which is on the board, is newer"
    return [one if one.reason or kept[one.name] is one else replace(one, reason=older) for one in found]


def _is_todays(one: Found) -> bool:
    digest = _digest(one.name)
    return digest is not None and digest == one.content.get("made_from", {}).get("submission")


def _digest(name: str) -> str | None:
    """Of a submission of the kit as it is today; None if there is none of that name."""
    try:
        return Submission.find(name).digest()
    except InputError:  # its file lies elsewhere, or has not such constants
        return None


def _of_one_device(found: list[Found]) -> Iterator[Found]:
    """Those of the kind of device on which most were made; scores of others are close, but not the same models."""
    kinds = [_kind(one) for one in found if not one.reason]
    most = max(sorted(set(kinds)), key=kinds.count, default="")
    for one in found:
        other = not one.reason and _kind(one) != most
        yield replace(one, reason=f"its runs were made on {_kind(one)}, most on {most}") if other else one


def _kind(one: Found) -> str:
    devices = sorted({str(run.facts.get("device", "?")).split()[0] for run in one.runs.values()})
    return " and ".join(devices)


def _scored(grader: Grader, one: Found, oracles: list[Record]) -> Result:
    """Its result at the grader's N."""
    kept = kept_at(one.folder, grader.runs)
    content = one.content if kept is None else kept[1]
    half = min(len(oracles) // 2, grader.runs)
    expected = {"runs": grader.runs, "missing_runs": [], "ceiling_runs": half}
    same = of_the_same_models(content, one.content)
    if same and NEW in content and all(content.get(key) == value for key, value in expected.items()):
        return Result(content)
    score = compute_score(one.runs, oracles, *grader.labels_and_persons, original=grader.original())
    about = {key: content.get(key) for key in ("made_from", "settings", "torch", "device", "seed")}
    return Result.of(score, one.name, grader.task.name, about)


def _page(folder: Path, runs: int) -> Path | None:
    """The page of what was graded in a folder, if one was drawn: the one of this N before the one of another."""
    found = kept_at(folder, runs)
    pages = [folder / PAGE] if found is None else [found[0].parent / PAGE, folder / PAGE]
    return next((page for page in pages if page.is_file()), None)


def _official(one: Found) -> bool:
    """Is it a submission of the kit, so that what its file says of the competition holds?"""
    return _is_todays(one)


def graded_confidences(grader: Grader, submission: Named) -> np.ndarray:
    """Confidences [N, E] of a submission's finished runs, verified as for a score; raises ScoreError if some miss."""
    plan = grader.run_plan(submission)
    shape = len(grader.task.forget), grader.task.num_classes
    folder = grader.workspace.of(plan.folder_name)
    runs = finished_runs(plan, folder, grader.runs, shape, grader.workspace)
    if len(runs) < grader.runs:
        make = grader.command("grade", submission, runs=grader.runs)
        raise ScoreError(f"{submission}: {len(runs)} of {grader.runs} runs are on disk; make the others: {make}")
    return confidences(_in_order(runs), grader.labels_and_persons[0])


def _in_order(runs: dict[int, Record]) -> list[Record]:
    return [runs[index] for index in sorted(runs)]
