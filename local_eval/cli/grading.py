"""The commands that grade: check, runs, oracles, scores of one or several submissions, comparisons, the report page.

How to run them: python -m local_eval --help
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from local_eval.cli.arguments import Exit
from local_eval.cli.checking import device_of
from local_eval.cli.request import Request
from local_eval.commands import command, task_words, typed
from local_eval.grade_given import AgainstGiven, find_given, grade_given, score_folder
from local_eval.grader import Grader, SeveralOriginals, grade_all, published_name, repeats_of, with_seeds
from local_eval.isolation.child import Failure
from local_eval.isolation.share_gpu import Engine
from local_eval.methods.submission import Submission, looks_like_checkpoints, submission_names
from local_eval.metric.metric import example_epsilons
from local_eval.metric.score import LEAST_RUNS, Score, ScoreError, check_runs, confidences
from local_eval.on_disk import graded_confidences
from local_eval.oracles.oracles import read_gate, save_pool
from local_eval.report.columns import UNSTATED
from local_eval.report.compare import (
    Compared,
    around_markers,
    as_json,
    as_text,
    best_in_words,
    markdown,
    pairs_in_words,
    rank_and_official_score,
    table_of_several,
    write_between_markers,
)
from local_eval.report.page.facts import PageSource, measures_in
from local_eval.report.page.method import MethodText
from local_eval.report.page.render import write_page
from local_eval.report.prediction import in_words
from local_eval.report.result import SCORE, Result, kept, kept_at, kept_under, of_the_same_models, result_folder
from local_eval.report.table import originals_line, repeats_line, table
from local_eval.runs.check import check_submission
from local_eval.runs.one_run import finished_runs
from local_eval.shared.verifying import SharedRow
from local_eval.shared.verifying import row_of as shared_row
from local_eval.store.errors import InputError, WorkError, many, printable
from local_eval.store.files import write_atomically
from local_eval.store.lines import terminal_width, wrapped
from local_eval.store.records import Record, RecordError

# What the commands that grade say: scores, failures.


def say_scoring(examples: int, runs: int) -> None:
    """What takes a while now."""
    print(f"scoring: attacks on {examples} forget examples at N = {runs}, then the ceiling", flush=True)


def tell_score(found: Score, path: Path, shown: str, grader: Grader, submission: Submission | str = "") -> int:
    """Print a score, and what Kaggle would have given; returns the exit code.

    Args:
        shown: how the table names what was graded.
        submission: as it was given; empty for models that were made elsewhere.
    """
    width = terminal_width()
    print(table(found, shown, grader.task.name, width))
    print(f"written to {path}")
    folder = result_folder(Path(path))
    if folder != Path(path).parent:
        kept = Result.read(folder / SCORE)["runs"]
        which = "larger" if kept > found.runs else "whole"
        print(f"the {which} grading, N = {kept}, stays as it is, and is what {folder / SCORE} and its page show")
    published = rank_and_official_score(submission)[1] if published_name(submission) else UNSTATED
    print(*wrapped(in_words(grader.predicted(found, submission), published), width, 2), sep="\n")
    return Exit.OVER_BUDGET if found.within_budget is False else 0


def tell_failures(failures: dict[int, Failure], grader: Grader, submission: Submission, seeds: Sequence[int]) -> int:
    """Say why runs failed, each reason once, and what can be done; returns how many did.

    Args:
        seeds: all with which the command makes runs.
    """
    by_reason: dict[str, list[int]] = {}
    for index, failure in sorted(failures.items()):
        by_reason.setdefault(failure.reason, []).append(index)
    for indices in by_reason.values():
        runs_named = ("run " if len(indices) == 1 else "runs ") + ", ".join(map(str, indices))
        print(f"{runs_named} failed: {failures[indices[0]].reported()}", file=sys.stderr)  # what the first one printed
    if failures:
        where = grader.workspace.failed(grader.workspace.of(grader.run_plan(submission).folder_name), min(failures))
        text = (
            f"{len(failures)} of {many(grader.runs, 'run')} failed; tracebacks are in {where.parent}, as {where.name}. "
            "The same command tries them again, with a longer --timeout if they are slow and do not hang"
        )
        if grader.runs - len(failures) >= LEAST_RUNS:
            more = ["--allow-missing", *(["--seeds", *map(str, seeds)] if len(seeds) > 1 else [])]
            without = (replace(grader, seed=0) if len(seeds) > 1 else grader).command(
                "score", submission, runs=grader.runs, more=more
            )
            text += f". To score without them: {without}"
        print(text, file=sys.stderr)
    return len(failures)


# Which of two methods is better, said after the table.


def tell_pairs(grader: Grader, scores: dict[str, Score], shared: dict[str, SharedRow], every: bool) -> None:
    """Print a line for each method and the best, or for every two: better, worse or cannot tell."""
    labels, persons = grader.labels_and_persons
    oracles = confidences(grader.cached_oracles()[: grader.runs], labels)
    runs = {n: shared[n].confidences if n in shared else graded_confidences(grader, n) for n in scores}
    in_words, width = pairs_in_words if every else best_in_words, terminal_width()
    for text in in_words(scores, runs, oracles, persons):
        print(*wrapped(text, width, 2), sep="\n")


# Make and score the runs of a submission: with one seed or several, from one original model and also from several.


def with_originals(grader: Grader, request: Request) -> list[Grader]:
    """The grader with the official single original model, and with --originals one with several.

    Raises:
        ScoreError: numbers of originals or repeats that make no sense.
    """
    if request.originals is None:
        return [grader]
    return [grader, SeveralOriginals.like(grader, request.originals)]


def make_runs(grader: Grader, submission: Submission, request: Request) -> bool:
    """Make what is missing of all seeds' runs, and say what failed; may they be scored?"""
    if isinstance(grader, SeveralOriginals):
        print(f"originals: {grader.disk_of_originals()}", flush=True)
    keep = request.keep_checkpoints and not isinstance(grader, SeveralOriginals)
    for one in with_seeds(grader, request.seeds):
        _, failures = one.finish_runs(submission, keep=keep)
        failed = tell_failures(failures, one, submission, request.seeds)
        if failed:
            request.answer["failed_runs"] = {index: why.reason for index, why in sorted(failures.items())}
        if keep and not failed:
            print(f"checkpoints: {one.zip_checkpoints(submission)}")
        if failed and not request.allow_missing:
            return False
    return True


def score_all(graders: list[Grader], submission: Submission, request: Request) -> tuple[int, Score]:
    """Score what is on disk, each grader's seeds; the exit code, and the official score."""
    say_scoring(len(graders[0].task.forget), request.runs)
    scores = [_score(grader, submission, request) for grader in graders]
    if len(graders) > 1:
        print(originals_line(*scores, graders[1].originals))
    return Exit.OVER_BUDGET if any(found.within_budget is False for found in scores) else 0, scores[0]


def _score(grader: Grader, submission: Submission, request: Request) -> Score:
    """Score every seed on its own, and print the first one's score with the others beside it."""
    all_seeds = with_seeds(grader, request.seeds)
    repeated = repeats_of(all_seeds, submission, request.allow_missing)
    how = (submission, request.allow_missing, request.budget_hours)
    first, path = grader.score(*how, repeated)
    for one in all_seeds[1:]:
        one.score(*how)
    several = f" from {grader.originals} original models" if isinstance(grader, SeveralOriginals) else ""
    tell_score(first, path, submission.label + several, grader, submission)
    if repeated:
        print(repeats_line(repeated, first))
    return first


# `grade a b c`: one after the other, and a table at the end. What goes wrong with one leaves the others theirs.


RUNS_FAILED = "runs failed, as told above"


def grade_several(
    names: list[str], check_one: Callable[[str], None], grade_one: Callable[[str], tuple[int, Score | None]]
) -> int:
    """Check all, then grade each; returns 0, 1 if any could not be graded, else the highest code of any.

    Args:
        names: as they were given; the two functions get one of them.
        check_one: raises what is wrong with a submission.
        grade_one: prints how it goes; returns an exit code and the score, None if runs failed.
    """
    codes: dict[str, int] = {}
    scores: dict[str, Score] = {}
    failed: dict[str, str] = {}
    for work in (check_one, grade_one):
        for number, name in enumerate(names, 1):
            if name in failed or (work is check_one and looks_like_checkpoints(name)):
                continue
            if work is grade_one:
                print(f"\n{number} of {len(names)}: {name}", flush=True)
            try:
                reported = work(name)
            except (InputError, WorkError) as error:
                print(f"error: {error}", file=sys.stderr)
                failed[name] = str(error)
                continue
            if work is grade_one:
                codes[name], score = reported
                scores |= {name: score} if score else {}
                failed |= {} if score else {name: RUNS_FAILED}
    print("\n" + table_of_several(names, scores, failed, terminal_width()))
    return 1 if failed else max(codes.values())


# Draw the page of a graded method from what lies on disk: for `report`, and at the end of `grade`.


ALIKE = ("runs", "originals", "interval_level", "retrained")  # in what may stand beside it
NEEDED = ("oracles", "projected", "not_projected", "missing_runs", "notes", "seed", "task_spec", "when")
CHECKED = 3  # examples whose epsilons are computed again: do the records still belong to the score?


def make_report(
    grader: Grader, submission: Submission | Path, images: bool = True, graded: tuple[int, int] | None = None
) -> Path:
    """Write report.html beside a score.json; returns its path.

    Args:
        submission: as it was found; or the path of models that were made elsewhere.
        images: whether the page shows three images of the forget set.
        graded: N, and how many runs were left out, of the score that it is about; None for the largest.
    Raises:
        ScoreError: there is no score, or runs and oracles are not those of the score any more.
        RecordError: score.json cannot be trusted.
        OutputError: the page cannot be written.
    """
    source, folder = page_source(grader, submission, graded)
    return write_page(source, folder, images)


def page_source(
    grader: Grader, submission: Submission | Path, graded: tuple[int, int] | None = None
) -> tuple[PageSource, Path]:
    """What the page of a graded method is drawn from, and the folder of its score; as `make_report`."""
    read = _of_checkpoints if isinstance(submission, Path) else _of_runs
    path, score, records = read(grader, submission, graded)
    source = _results(grader, path, score, records, _again(grader, submission, score))
    _check_fit(source, source.command)
    method = None if isinstance(submission, Path) else MethodText.of(submission)
    about = {"command": _command(submission, score), "shortened": _shortened(submission, score), "method": method}
    return replace(source, **about), path.parent


Graded = tuple[Path, Result, dict[int, Record]]  # score.json, what it holds, and the models' records


def _of_runs(grader: Grader, submission: Submission, graded: tuple[int, int] | None) -> Graded:
    plan = grader.run_plan(submission)
    path, score = _score_in(grader, grader.score_folder(plan.folder_name), submission, graded)
    missing = set(score["missing_runs"])
    shape = len(grader.task.forget), grader.task.num_classes
    runs = grader.workspace.of(plan.folder_name)
    done = finished_runs(plan, runs, score["runs"] + len(missing), shape, grader.workspace)
    return path, score, {k: run for k, run in done.items() if k not in missing}


def _of_checkpoints(grader: Grader, models: Path, graded: tuple[int, int] | None) -> Graded:
    side = find_given(grader, models, "unlearned", look=False)
    path, score = _score_in(grader, score_folder(grader, side), models, graded)
    return path, score, {record.identity["index"]: record for record in side.records}


def _score_in(
    grader: Grader, folder: Path, submission: Submission | Path, graded: tuple[int, int] | None
) -> tuple[Path, Result]:
    """A score in a folder and its path. Raises ScoreError, RecordError."""
    runs = graded and not isinstance(submission, Path) and sum(graded)
    again = grader.command("grade", submission, runs=runs or None)
    name = submission.name if isinstance(submission, Path) else submission.label
    path, there = folder / SCORE, kept(folder)
    if graded is not None or not path.exists():
        found = kept_at(folder, *graded) if graded is not None else there[0] if there else None
        if found is None:
            at_n = f" at N = {graded[0]}" if graded is not None else ""
            others = ", ".join(str(one.get("runs")) for _, one in there)
            others = f" (there is one at N = {others})" if others else ""
            raise ScoreError(f"there is no score of {name}{at_n} in {folder}{others}; make one first: {again}")
        path = found[0]
    try:
        score = Result.read(path)
    except RecordError as error:
        raise RecordError(f"{error}: {again}") from None
    if gone := [key for key in NEEDED if key not in score]:
        raise ScoreError(f"{path} is of an earlier version, without {gone[0]}; grade it again: {again}")
    if score["score"] is None:
        raise ScoreError(
            f"{path} knows no accuracies, which a page needs; put retain_accuracy and "
            "test_accuracy into the file that was given"
        )
    return path, score


def _results(grader: Grader, path: Path, score: Result, records: dict[int, Record], again: str) -> PageSource:
    runs, folder = score["runs"], result_folder(path)
    if not grader.original_records():
        raise ScoreError("a page shows the original model, and none is there: both sides were given")
    pool = replace(grader, runs=runs).cached_oracles()
    if len(records) != runs or len(pool) < runs:
        raise ScoreError(
            f"{folder} has a score of {runs} runs, but {many(len(records), 'run')} and {many(len(pool), 'oracle')} "
            f"count now; grade it again: {again}"
        )
    (original,) = Grader.original_records(grader)  # the official one, also where runs start from several
    failures = {k: _why(folder / f"{k:04d}.failed.txt") for k in score["missing_runs"]}
    same = (one for _, one in kept(folder) if of_the_same_models(one, score))
    larger = next((one for one in same if one.get("runs", 0) > runs), None)
    facts = {"failures": failures, "others": _others(folder, score), "measures": measures_in(score), "larger": larger}
    return PageSource(score, records, pool, original, grader.task, again, **facts)


def _check_fit(source: PageSource, again: str) -> None:
    """Raise ScoreError if these are not the models that the score was made from."""
    labels = source.task.forget.labels.cpu().numpy()
    runs = [source.unlearned[k] for k in sorted(source.unlearned)]
    some = [confidences(models, labels)[:, :CHECKED] for models in (runs, source.retrained)]
    if example_epsilons(*some).tolist() != source.result["epsilons"][:CHECKED]:
        raise ScoreError(f"runs or oracles have changed since they were scored; grade it again: {again}")


def _why(path: Path) -> str:
    """The first line of what is kept of a failed run."""
    try:
        return path.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return "the reason was not kept"


def _others(folder: Path, score: Result) -> tuple[Result, ...]:
    """What else was graded on this task at this N and seed; of a submission's versions the last."""
    found = {}
    for path in kept_under(folder.parent):
        if result_folder(path) == folder:
            continue
        try:
            other = Result.read(path)
            seeds = {other["seed"], score["seed"]} - {None}  # of checkpoints it is not known
            originals = {s.get("made_from", {}).get("original") for s in (other, score)} - {None}  # likewise
            one = len(seeds) < 2 and len(originals) < 2 and other["score"] is not None
            if one and all(other.get(key) == score.get(key) for key in ALIKE):
                name = other["submission"]
                found[name] = max(found.get(name, other), other, key=lambda s: s["when"])
        except (RecordError, KeyError):  # damaged, or of an earlier version: it is not this page's matter
            continue
    return tuple(s for name, s in sorted(found.items()) if name != score["submission"])


def _again(grader: Grader, submission: Submission | Path, score: Result) -> str:
    """The command that makes a score again here; models that were given bring their N."""
    if isinstance(submission, Path):
        return grader.command("grade", submission)
    more = ["--allow-missing"] if score["missing_runs"] else []
    return grader.command("grade", submission, runs=score["runs"] + len(score["missing_runs"]), more=more)


def _command(submission: Submission | Path, score: Result) -> str:
    """The command for the page, which others may be sent: without the folders of whoever graded."""
    made_here = score["seed"] is not None
    more = ["--allow-missing"] if score["missing_runs"] else []
    more += ["--retrained", score["retrained"]["from"]] if score.get("retrained") else []
    more += ["--batches-on", "cpu"] if "batches_on" in score.get("made_from", {}) else []
    runs = score["runs"] + len(score["missing_runs"]) if made_here else None
    where = {"task": score["task_spec"], "runs": runs, "seed": score["seed"]}
    return command("grade", [submission], **where, more=more, whole=False)


def _shortened(submission: Submission | Path, score: Result) -> tuple[str, ...]:
    """The files that the page's command names without their folders."""
    whole, short = (
        [typed(submission, kind), *task_words(score["task_spec"], kind)] for kind in (True, False)
    )  # fmt: skip
    return tuple(name for path, name in zip(whole, short) if path != name)


# What `grade` does when the score is written: draw the page about it, and never fail by that.


def report_after_grading(grader: Grader, submission: Submission | Path, score: Score) -> None:
    """Draw the page of this score; whatever goes wrong is said in one line, since the score is safe by now."""
    try:
        print(f"report: {make_report(grader, submission, graded=(score.runs, len(score.missing)))}")
    except Exception as error:
        print(f"no report: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)


# Options about runs, and what they are unless given.
NEED_RUNS = {"budget_hours": None, "keep_checkpoints": False, "originals": None, "sandbox": None}
NEED_RUNS |= {"engine": "local", "allow_missing": False, "batches_on": "device"}


def _grader(request: Request) -> Grader:
    check_runs(request.runs)
    device = device_of(request)
    grader = Grader(
        task_spec=request.task,
        out=request.out,
        runs=request.runs,
        seed=request.seed,
        device=device,
        workers=getattr(request, "workers", None),
        timeout=getattr(request, "timeout", Grader.timeout),
        sandbox=getattr(request, "sandbox", None),
        engine=engine_of(request),
        batches_on=getattr(request, "batches_on", Grader.batches_on),
    )
    return against_given(grader, request) if getattr(request, "retrained", None) else grader


def against_given(grader: Grader, request: Request) -> AgainstGiven:
    """The grader against the models of --retrained, which are read once."""
    if getattr(request, "originals", None):
        raise ScoreError("--originals grades against the task's oracles; leave it or --retrained out")
    print(f"retrained models from {request.retrained}; the task's own oracles are left alone", flush=True)
    return AgainstGiven.like(grader, request.retrained)


def engine_of(request: Request) -> Engine | None:
    """What --engine and --address say; None for processes of this machine. Raises InputError."""
    if getattr(request, "engine", "local") == "local":
        if getattr(request, "address", None):
            raise ScoreError("--address is the address of a Ray cluster: it goes with --engine ray")
        return None
    from local_eval.cluster.ray_engine import RayEngine  # here, since nothing else needs it

    return RayEngine(request.address)


def grade(request: Request) -> int:
    """All stages in order, for one or several; or, for checkpoints that exist already, only their evaluation."""
    names = list(dict.fromkeys(request.submissions))
    _refuse_idle(request, [name for name in names if looks_like_checkpoints(name)])
    grader = _grader(request)
    check_one = partial(_check_one, grader, request)
    grade_one = partial(_grade_checked, grader, request)
    if len(names) > 1:
        _ = grader.task  # a wrong task should not be named once for every submission
        answers = request.answer["results"] = {}
        return grade_several(names, *(partial(_answered_each, request, answers, one) for one in (check_one, grade_one)))
    if not looks_like_checkpoints(names[0]):
        check_one(names[0])
    return grade_one(names[0])[0]


def _answered_each(request: Request, answers: dict[str, dict], work: Callable[[str], object], name: str) -> object:
    """What `work(name)` returns; what it leaves in the answer, or raises, is put under the submission's name."""
    try:
        return work(name)
    except (InputError, WorkError) as error:
        request.answer["error"] = str(error)
        raise
    finally:
        found = {key: request.answer.pop(key) for key in list(request.answer) if key != "results"}
        answers.setdefault(name, {}).update(found)


def answer_of(path: Path) -> dict:
    """What `grade --json` says of a score: the fields of its score.json, but not every example's epsilon."""
    fields = {key: value for key, value in Result.read(path).items() if key not in ("epsilons", "sha256")}
    return fields | {"file": str(path)}


def _refuse_idle(request: Request, given: list[str]) -> None:
    """Raise ScoreError for options that would do nothing, since all that is to be graded is finished models."""
    idle = [name for name, usual in NEED_RUNS.items() if getattr(request, name) != usual]
    idle += ["seeds"] if len(request.seeds) > 1 else []
    if given and idle:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise ScoreError(f"{names}: this needs runs that are made here, and {given[0]} holds finished models")


def _check_one(grader: Grader, request: Request, name: str) -> None:
    with_originals(grader, request)  # numbers that make no sense are refused now
    for note in grader.task.notes:  # loaded here, so that a wrong task is not blamed on the submission
        print(f"task: {note}")
    found = Submission.find(request.found[name])
    if _all_finished(grader, request, found):
        print(f"all runs of {name} are there, so there is no dry run", flush=True)
        return
    how = grader.device, grader.sandbox_of_runs(), grader.batches_on
    print(f"checking {name}: a dry run", flush=True)
    for remark in check_submission(found, request.task, *how):
        print(f"check: {remark}", flush=True)


def _all_finished(grader: Grader, request: Request, submission: Submission) -> bool:
    """Is nothing of this submission to be run, and nothing else to be refused by a dry run?"""
    if request.keep_checkpoints or request.originals or request.sandbox:
        return False
    return all(one.has_all_runs(submission) for one in with_seeds(grader, request.seeds))


def _grade_checked(grader: Grader, request: Request, name: str) -> tuple[int, Score | None]:
    """An exit code, and the score unless runs failed."""
    if looks_like_checkpoints(name):
        return _grade_checkpoints(grader, request, Path(name))
    submission = Submission.find(request.found[name])
    print(grader.disk_needed(submission, request.keep_checkpoints, request.seeds, request.originals), flush=True)
    oracles = grader.finish_oracles()
    print(f"oracles: {len(oracles)} in {grader.workspace.oracles}", flush=True)
    graders = with_originals(grader, request)
    if not all(make_runs(each, submission, request) for each in graders):
        request.answer["error"] = f"runs failed: {next(iter(request.answer['failed_runs'].values()))}"
        return 1, None
    code, found = score_all(graders, submission, request)
    if request.json:
        place = grader.score_folder(grader.run_plan(submission).folder_name)
        request.answer.update(answer_of(kept_at(place, found.runs, len(found.missing))[0]))
    if not request.no_report:
        report_after_grading(grader, submission, found)
    return code, found


def _grade_checkpoints(grader: Grader, request: Request, path: Path) -> tuple[int, Score]:
    found = grade_given(grader, path)
    code = tell_score(*found, path.name, grader)
    if request.json:
        request.answer.update(answer_of(Path(found[1])))
    if not request.no_report:
        report_after_grading(grader, path, found[0])
    return code, found[0]


def _of_code(request: Request) -> Submission:
    """The submission that is named. Raises InputError for finished models, which neither run nor wait for it."""
    if looks_like_checkpoints(request.submission):
        graded = command("grade", [request.submission], task=request.task)
        raise InputError(f"{request.submission} is no submission; if it holds finished models, grade them: {graded}")
    return Submission.find(request.found[request.submission])


def run(request: Request) -> int:
    """Only the runs."""
    submission = _of_code(request)
    grader = _grader(request)
    return 1 if tell_failures(grader.finish_runs(submission)[1], grader, submission, [request.seed]) else 0


def score(request: Request) -> int:
    """Only the score of what is on disk."""
    submission = _of_code(request)
    return score_all(with_originals(_grader(request), request), submission, request)[0]


def oracles(request: Request) -> int:
    """Only the oracles; or take them from a file, or leave them in one."""
    grader = _grader(request)
    if request.tf32:
        if grader.engine:
            raise InputError("--tf32 was tried on this machine's card; leave --engine out")
        grader = replace(grader, tf32=read_gate(request.tf32, grader.fingerprint, grader.device))
        print("oracles are trained in TF32, which their records and scores say")
    if request.load_pool:
        print(f"{grader.take_oracles(request.load_pool)} oracles from {request.load_pool}")
    trained = grader.finish_oracles()
    print(f"{many(len(trained), 'oracle')} in {grader.workspace.oracles}")
    if request.save_pool:
        save_pool(trained, request.save_pool)
        print(f"{len(trained)} oracles saved to {request.save_pool}")
    return 0


def headroom(request: Request) -> int:
    """Score originals that forgot nothing, and say whether that leaves room for methods."""
    grader = _grader(request)
    found, verdict = grader.headroom()
    print(table(found, "fresh originals, nothing forgotten,", grader.task.name, terminal_width()))
    print("\n".join(verdict.lines(found.runs)))
    return 0


def shared_rows(grader: Grader, names: Sequence[str | Path]) -> dict[str, SharedRow]:
    """Those of the names that are shared files, scored against the oracles here, which are trained if they miss.

    What is otherwise in a file than here is said. Raises SharedError.
    """
    paths = [Path(name) for name in names if looks_like_checkpoints(str(name))]
    if paths:
        grader.finish_oracles()
    rows = {str(path): shared_row(grader, path) for path in paths}
    for name, row in rows.items():
        for remark in row.remarks:
            print(printable(f"{name}: {remark}"), file=sys.stderr)
    return rows


def compare_all(request: Request) -> int:
    """Several submissions in one table."""
    grader = _grader(request)
    names = request.names or submission_names()
    pages = [path for form, path in request.write if form == ".md"]
    for path in pages:
        around_markers(path, f"table {grader.task.name}")  # so should a file that cannot take the table
    shared, own = shared_rows(grader, names), [name for name in names if not looks_like_checkpoints(name)]
    scores, failed = grade_all(grader, own)
    scores |= {name: row.score for name, row in shared.items()}
    scores = {name: scores[name] for name in dict.fromkeys(names) if name in scores}
    for name, reason in failed.items():
        print(f"{name} is not in the table: {reason}", file=sys.stderr)
    if scores:
        about = (grader.task.name, grader.task_spec, grader.fingerprint, grader.runs, grader.seed, grader.device)
        graded = Compared(scores, *about, tuple(request.names or ()), grader.more_words("compare"))
        again = grader.command("compare", *graded.names, runs=grader.runs)
        print(markdown(graded, again) if request.markdown else as_text(graded, terminal_width(), again))
        if len(scores) > 1:
            print(flush=True)  # what comes now takes a while
            tell_pairs(grader, scores, shared, every=request.pairs or len(scores) == 2)
        for path in (path for form, path in request.write if form == ".json"):
            write_atomically(path, as_json(graded).encode())
        for path in pages:
            write_between_markers(path, f"table {grader.task.name}", markdown(graded))
    return 1 if failed else 0
