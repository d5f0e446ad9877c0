"""Several graded submissions in one table: score with interval, accuracies, time, official score.

How to run it: python -m local_eval compare --runs 64 --write README.md --save results/digits.json
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass

from scipy.stats import spearmanr

from local_eval.engine.provenance import provenance
from local_eval.metric.score import Score
from local_eval.report.table import projected_score
from local_eval.runs.submissions import Submission

NAMES = "method, rank, score, 90 % interval, of ceiling, at N = 512, RA, TA, at epsilon 50, s / run, official private"
COLUMNS = NAMES.split(", ")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


@dataclass(frozen=True)
class Graded:
    """Several methods' scores on one task, and what they were graded with."""

    scores: dict[str, Score]
    task: str
    spec: str  # as --task takes it
    fingerprint: str
    runs: int
    seed: int
    device: str


def markdown(graded: Graded) -> str:
    """The table, best score first, with what it was measured on."""
    rows = [_row(name, score) for name, score in sorted(graded.scores.items(), key=lambda item: -item[1].score)]
    ceiling = next(iter(graded.scores.values())).ceiling
    facts = provenance(graded.device)
    correlation, ranked = rank_agreement(graded.scores)
    agreement = f" Spearman's correlation with the {ranked} official ranks: {correlation:.2f}." if ranked > 2 else ""
    legend = (
        f"Ceiling {ceiling:.4f}.{agreement} Task `{graded.task}`, N = {graded.runs}, seed {graded.seed}, "
        f"{facts['hardware']}, torch {facts['torch']}, commit {facts['commit']}; "
        f"`python -m local_eval compare --task {graded.spec.partition(':')[0]} --runs {graded.runs}`."
    )
    return "\n".join([HEAD, *rows, "", legend])


def _row(name: str, s: Score) -> str:
    rank, official = rank_and_official_score(name)
    low, high = s.interval
    return (
        f"| `{name}` | {rank} | {s.score:.4f} | {low:.4f} to {high:.4f} | "
        f"{s.quality_over_ceiling:.2f} | {_at_512(s)} | {s.retain_accuracy:.3f} | {s.test_accuracy:.3f} | "
        f"{s.share_at_cap:.0%} | {s.seconds_per_run:.2f} | {official} |"
    )


def _at_512(s: Score) -> str:
    return "-" if s.projected is None else "{:.4f} ({:.4f} to {:.4f})".format(*projected_score(s))


def rank_and_official_score(name: str) -> tuple[str, str]:
    """The final rank and the official private score that a submission's docstring states, or '-', as for a variant."""
    submission = Submission.find(name)
    text = "" if submission.settings else ast.get_docstring(submission.tree()) or ""
    rank = re.search(r"^Rank:\s+(\d+)", text, re.MULTILINE)
    score = re.search(r"private (0\.\d+)", text)
    return rank.group(1) if rank else "-", f"{float(score.group(1)):.4f}" if score else "-"


def rank_agreement(scores: dict[str, Score]) -> tuple[float, int]:
    """Spearman's correlation of our order with the official private ranks, and over how many methods; 1 is the same."""
    ranks = {name: rank_and_official_score(name)[0] for name in scores}
    ranked = [name for name in scores if ranks[name].isdigit()]
    if len(ranked) < 2:
        return float("nan"), len(ranked)
    ours = [-scores[name].score for name in ranked]
    return float(spearmanr(ours, [int(ranks[name]) for name in ranked]).statistic), len(ranked)


def as_json(graded: Graded) -> str:
    """The same numbers for programs."""
    methods = {
        name: {
            "score": s.score,
            "interval": list(s.interval),
            "forgetting_quality": s.forgetting_quality,
            "quality_over_ceiling": s.quality_over_ceiling,
            "projected": s.projected and list(projected_score(s)),
            "retain_accuracy": s.retain_accuracy,
            "test_accuracy": s.test_accuracy,
            "seconds_per_run": s.seconds_per_run,
            "share_at_cap": s.share_at_cap,
            "official_rank": rank_and_official_score(name)[0],
            "official_private": rank_and_official_score(name)[1],
        }
        for name, s in graded.scores.items()
    }
    about = {"task": graded.task, "fingerprint": graded.fingerprint, "runs": graded.runs, "seed": graded.seed}
    first = next(iter(graded.scores.values()))
    about |= {"ceiling": first.ceiling, "ceiling_runs": first.ceiling_runs}
    correlation, ranked = rank_agreement(graded.scores)
    about |= {"rank_correlation": correlation if ranked > 2 else None, "ranked_methods": ranked}
    return json.dumps({**about, **provenance(graded.device), "methods": methods}, indent=1) + "\n"
