"""What was measured on request, for people and programs: further measures of one or several methods, and relearning.

How it is used: `as_text(...)`, `as_markdown(...)`, `as_json(...)` of what metric/published.py found;
`relearned_text(...)`, `relearned_json(...)`, `relearned_png(...)` of what runs/relearn.py found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from local_eval.metric.published import Asked
from local_eval.metric.relearning import SEEN, Beside, Relearned
from local_eval.store.lines import wrapped

HANG = 2 + 28 + 9 + 2  # characters before what is said of a number


def as_text(found: Sequence[Asked], submission: str, task: str, runs: int, width: int | None) -> str:
    """The measures of one method as a few aligned lines."""
    lines = [f"{submission} on {task}, N = {runs}: measures on request"]
    for one in found:
        measure = one.measure
        usual = f"perfect unlearning {measure.perfect:.3f} ({measure.low:.3f} to {measure.high:.3f})"
        start = "" if one.original is None else f"; the original {one.original:.3f}"
        text = f"  {measure.name:<28}{measure.value:>9.3f}  {measure.words}; {usual}{start}"
        lines += wrapped(text, width, HANG)
    return "\n".join(lines)


def as_markdown(found: Mapping[str, Sequence[Asked]]) -> str:
    """One table of several methods: a row for each measure, a column for each method, and what perfect unlearning gets.

    Args:
        found: by name, of methods that were measured alike.
    """
    first = {one.measure.key: one for some in found.values() for one in some}
    head = ["measure", *found, "perfect (95 %)", "original"]
    rows = [head, ["---"] * len(head)]
    for key, usual in first.items():
        values = {name: one for name, some in found.items() for one in some if one.measure.key == key}
        m = usual.measure
        cells = [_bold_if_perfect(values.get(name)) for name in found]
        start = "-" if usual.original is None else f"{usual.original:.3f}"
        rows.append([m.name, *cells, f"{m.perfect:.3f} ({m.low:.3f} to {m.high:.3f})", start])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _bold_if_perfect(one: Asked | None) -> str:
    """A value; bold where it lies within what perfect unlearning gets."""
    if one is None:
        return "-"
    inside = one.measure.low <= one.measure.value <= one.measure.high
    return f"**{one.measure.value:.3f}**" if inside else f"{one.measure.value:.3f}"


def as_json(found: Sequence[Asked], about: Mapping[str, object]) -> str:
    """For programs: `measures` as `beyond` of score.json has them, each with `original`, null where it has none."""
    rows = [asdict(one.measure) | {"original": one.original} for one in found]
    return json.dumps(dict(about) | {"measures": rows}, indent=1) + "\n"


def relearned_text(found: Relearned, submission: str, task: str, on: str, width: int | None) -> str:
    """The curves as a small table, and below it a verdict.

    Args:
        on: what the models were trained on, in words.
    """
    lines = [f"relearning {submission} on {task}: {found.models} models a side, {found.epochs} epochs on {on}"]
    lines.append(f"  {'':<8}{'forget accuracy':>17}{'perfect':>10}  {'(95 %)':<18}{'confidence':>12}{'perfect':>10}")
    for epoch in found.shown():
        right, sure = found.after(epoch), found.after(epoch, "confidence")
        span = f"({right.low:.3f} to {right.high:.3f})"
        lines.append(
            f"  {f'epoch {epoch}':<8}{right.unlearned:>17.3f}{right.oracles:>10.3f}  {span:<18}{sure.unlearned:>12.2f}"
            f"{sure.oracles:>10.2f}"
        )
    whole = found.on_average()
    texts = [f"  over the epochs: {whole.words}; accuracy {_spelled(whole)}"]
    texts.append("  gained on average: " + "; ".join(f"{what} {_spelled(found.rise(what), '+')}" for what in SEEN[:2]))
    return "\n".join(lines + [line for text in texts for line in wrapped(text, width, 4)])


def _spelled(one: Beside, sign: str = "") -> str:
    low, high = (f"{end:{sign}.3f}" for end in (one.low, one.high))
    return f"{one.unlearned:{sign}.3f}, oracles {one.oracles:{sign}.3f} ({low} to {high})"


def relearned_json(found: Relearned, about: Mapping[str, object]) -> str:
    """For programs: the verdict, every epoch of both sides with the interval of perfect ones, and the bare curves."""
    epochs = [
        {"epoch": epoch} | {what: asdict(found.after(epoch, what)) for what in SEEN}
        for epoch in range(found.epochs + 1)
    ]
    verdict = {"words": found.on_average().words}
    verdict |= {what: asdict(found.on_average(what)) for what in SEEN}
    verdict |= {"gained": {what: asdict(found.rise(what)) for what in SEEN}}
    bare = {"seen": list(SEEN), "unlearned": found.unlearned.tolist(), "oracles": found.oracles.tolist()}
    content = dict(about) | {"models": found.models, "on_average": verdict, "epochs": epochs, "curves": bare}
    return json.dumps(content, indent=1) + "\n"


def relearned_png(found: Relearned, submission: str) -> bytes:
    """The figure: forget accuracy and confidence by epoch; models thin, means bold, the perfect interval shaded."""
    from local_eval.report.page import figures as drawn  # here, so that the table needs no matplotlib

    epochs = np.arange(found.epochs + 1)
    with drawn.drawing(2.8, 6.6) as figure:
        for place, (what, title) in enumerate((("accuracy", "forget accuracy"), ("confidence", "confidence"))):
            axes = figure.add_subplot(1, 2, place + 1)
            beside = [found.after(epoch, what) for epoch in epochs]
            axes.fill_between(
                epochs, [b.low for b in beside], [b.high for b in beside], color=drawn.THEIRS, alpha=0.15, lw=0
            )
            for side, colour, label in (
                (found.oracles, drawn.THEIRS, "retrained models"),
                (found.unlearned, drawn.OURS, submission),
            ):
                values = side[:, :, SEEN.index(what)]
                axes.plot(epochs, values.T, color=colour, lw=0.6, alpha=0.5)
                axes.plot(epochs, values.mean(axis=0), color=colour, lw=2, label=label if place == 0 else None)
            axes.set(xlabel="epochs of relearning", ylabel=title, xlim=(0, found.epochs))
            axes.locator_params(axis="x", integer=True, nbins=6)
            axes.grid(axis="y", color=drawn.RULE, lw=0.5)
            axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=2)
    return drawn.as_png(figure)
