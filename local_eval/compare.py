"""Grade several submissions with the same N and write one table: score with interval, accuracies, time, official score.

How to run it: python -m local_eval compare --runs 64 --write README.md --save results/digits.json
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import subprocess
from pathlib import Path

from scipy.stats import spearmanr

from local_eval.contract import ROOT, parse_source, submission_path
from local_eval.grade import Grader
from local_eval.metric import MetricError
from local_eval.records import OutputError, versions, write_atomically
from local_eval.score import Score, ScoreError

HEAD = (
    "| method | rank | score | 95 % interval | of ceiling | RA | TA | at epsilon 50 | s / run | official private |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def compare(grader: Grader, names: list[str]) -> tuple[dict[str, Score], dict[str, str]]:
    """Grade each name; returns the scores, and for those that could not be scored the reason."""
    grader.finish_oracles()
    scores, failed = {}, {}
    for name in names:
        _, failures = grader.finish_runs(name)
        if failures:
            index, failure = next(iter(sorted(failures.items())))
            failed[name] = f"{len(failures)} of {grader.runs} runs failed; run {index}: {failure.reason}"
            continue
        try:
            scores[name], _ = grader.score(name)
        except (MetricError, ScoreError) as error:  # one method without an answer leaves the others theirs
            failed[name] = str(error)
    return scores, failed


def markdown(scores: dict[str, Score], grader: Grader) -> str:
    """The table, best score first, with what it was measured on."""
    rows = [_row(name, score) for name, score in sorted(scores.items(), key=lambda item: -item[1].score)]
    ceiling = next(iter(scores.values())).ceiling
    facts = provenance(grader.device)
    correlation, ranked = rank_agreement(scores)
    agreement = f" Spearman's correlation with the {ranked} official ranks: {correlation:.2f}." if ranked > 2 else ""
    legend = (
        f"Ceiling {ceiling:.4f}.{agreement} Task `{grader.task.name}`, N = {grader.runs}, seed {grader.seed}, "
        f"{facts['hardware']}, torch {facts['torch']}, commit {facts['commit']}; "
        f"`python -m local_eval compare --task {grader.task_spec.partition(':')[0]} --runs {grader.runs}`."
    )
    return "\n".join([HEAD, *rows, "", legend])


def _row(name: str, s: Score) -> str:
    rank, official = rank_and_official_score(submission_path(name))
    low, high = s.interval
    return (
        f"| `{name}` | {rank} | {s.score:.4f} | {low:.4f} to {high:.4f} | {s.score_over_ceiling:.2f} | "
        f"{s.retain_accuracy:.3f} | {s.test_accuracy:.3f} | {s.share_at_cap:.0%} | {s.seconds_per_run:.2f} | "
        f"{official} |"
    )


def rank_and_official_score(path: Path) -> tuple[str, str]:
    """The final rank and the official private score that a submission's docstring states, or '-'."""
    text = ast.get_docstring(parse_source(path)) or ""
    rank = re.search(r"^Rank:\s+(\d+)", text, re.MULTILINE)
    score = re.search(r"private (0\.\d+)", text)
    return rank.group(1) if rank else "-", f"{float(score.group(1)):.4f}" if score else "-"


def rank_agreement(scores: dict[str, Score]) -> tuple[float, int]:
    """Spearman's correlation of our order with the official private ranks, and over how many methods; 1 is the same."""
    ranks = {name: rank_and_official_score(submission_path(name))[0] for name in scores}
    ranked = [name for name in scores if ranks[name].isdigit()]
    if len(ranked) < 2:
        return float("nan"), len(ranked)
    ours = [-scores[name].score for name in ranked]
    return float(spearmanr(ours, [int(ranks[name]) for name in ranked]).statistic), len(ranked)


def provenance(device: str) -> dict[str, str]:
    """Hardware, versions and commit that a figure was measured with."""
    facts = versions(device)
    try:
        command = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    except OSError:  # no git here
        commit = ""
    device = facts["device"].removeprefix("cuda ") if facts["device"].startswith("cuda") else _processor()
    return {"hardware": device, "torch": facts["torch"], "commit": commit.strip() or "unknown"}


def _processor() -> str:
    cores, name = os.cpu_count(), platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found.group(1) if found else name
    return f"{cores} cores of {name}"


def as_json(scores: dict[str, Score], grader: Grader) -> str:
    """The same numbers for programs."""
    methods = {
        name: {
            "score": s.score,
            "interval": list(s.interval),
            "forgetting_quality": s.forgetting_quality,
            "retain_accuracy": s.retain_accuracy,
            "test_accuracy": s.test_accuracy,
            "seconds_per_run": s.seconds_per_run,
            "share_at_cap": s.share_at_cap,
            "official_rank": rank_and_official_score(submission_path(name))[0],
            "official_private": rank_and_official_score(submission_path(name))[1],
        }
        for name, s in scores.items()
    }
    about = {"task": grader.task.name, "fingerprint": grader.fingerprint, "runs": grader.runs, "seed": grader.seed}
    first = next(iter(scores.values()))
    about |= {"ceiling": first.ceiling, "ceiling_runs": first.ceiling_runs}
    correlation, ranked = rank_agreement(scores)
    about |= {"rank_correlation": correlation if ranked > 2 else None, "ranked_methods": ranked}
    return json.dumps({**about, **provenance(grader.device), "methods": methods}, indent=1) + "\n"


def around_markers(path: Path, name: str) -> tuple[str, str]:
    """What a file holds up to and with `<!-- name -->`, and from `<!-- end name -->` on.

    Raises:
        OutputError: there is no such file, or it has no such markers.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    content = path.read_text() if path.is_file() else ""
    if start not in content or end not in content:
        raise OutputError(f"{path} has no lines {start.strip()} and {end}; add them where the table should go")
    before, rest = content.split(start, 1)
    return before + start, end + rest.split(end, 1)[1]


def write_between_markers(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end name -->` in a file; raises OutputError."""
    before, after = around_markers(path, name)
    write_atomically(path, f"{before}{text}\n{after}".encode())
