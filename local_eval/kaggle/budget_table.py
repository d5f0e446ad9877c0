"""The table of what every submission costs in stock epochs, for docs/budget.md, beside what its authors reported.

How to run it: python -m local_eval budget --all --readme docs/budget.md
"""

from __future__ import annotations

from local_eval.kaggle.budget import Cost, Projection, project
from local_eval.metric.score import BUDGET_SECONDS, OFFICIAL_RUNS

MARKER = "budget table"  # the table stands between <!-- budget table --> and <!-- end budget table -->
REPORTED = {  # by the first word of a submission's name
    "fanchuan": "8 epochs fit with batch 256, at most 6 with 64",
    "seif": "about 6 h",
}


def budget_table(costs: dict[str, Cost], where: str, stock_epoch_seconds: float | None = None) -> str:
    """A Markdown table, cheapest first. `where` names task and machine."""
    lines = [
        "| submission | stock epochs | range | 512 models on Kaggle, projected | in 8 h? | authors |",
        "|---|---|---|---|---|---|",
    ]
    for name, cost in sorted(costs.items(), key=lambda item: item[1].middle):
        found = project(cost, stock_epoch_seconds)
        lines.append(
            f"| {name} | {cost.middle:.1f} | {cost.low:.1f} to {cost.high:.1f} | {_hours(found)} | {found.verdict} "
            f"| {REPORTED.get(name.split('_')[0], '')} |"
        )
    lines.append(
        f"\nMeasured on {where}; a stock epoch is one run of baseline_finetune. The range spans times, images and "
        f"steps: batches above 64 save on a GPU and not on a CPU. The budget is {BUDGET_SECONDS} s a run, saving "
        "and zipping included; a projection, not a measurement."
    )
    return "\n".join(lines)


def _hours(found: Projection) -> str:
    low, middle, high = (value * OFFICIAL_RUNS / 3600 for value in (found.low, found.middle, found.high))
    return f"{middle:.1f} h ({low:.1f} to {high:.1f})"
