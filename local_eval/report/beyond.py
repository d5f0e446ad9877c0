"""The second table on the console: the three further measures that matter most; all are in score.json.

How it is used: `beyond_rows(score)`, by report/table.py. docs/glossary.md says what each measure is.
"""

from __future__ import annotations

from local_eval.metric.beyond.further import SHOWN
from local_eval.metric.score import Score

Row = tuple[str, str, str]  # name, value, what to make of it


def beyond_rows(score: Score) -> list[Row]:
    """The rows; none where there is no further measure."""
    found = {measure.key: measure for measure in score.beyond}
    if not found:
        return []
    rows = []
    for measure in (found[key] for key in SHOWN if key in found):
        usual = f"perfect unlearning {measure.perfect:.3f} ({max(measure.low, 0):.3f} to {measure.high:.3f})"
        rows.append((measure.name, f"{measure.value:.3f}", f"{measure.words}; {usual}"))
    if "test_control" not in found:
        text = "not kept: models given as numbers, or of an earlier version (deleted, they are made again with them)"
        rows.append(("controls", "none", text))
    rows.append((f"{len(found)} further measures", "", "in score.json; docs/glossary.md says what each is"))
    return rows
