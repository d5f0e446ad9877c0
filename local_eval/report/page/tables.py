"""The table behind every figure: the numbers that were drawn, as text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from local_eval.engine.evaluation import SPLITS
from local_eval.report.page.accuracies import KINDS
from local_eval.report.page.facts import Facts, spread_out, standing
from local_eval.report.page.figures_examples import BINS_ALL, shares
from local_eval.report.page.figures_overview import REPAIRS
from local_eval.report.page.words import signed

MOST_LINES = 120  # of a table; examples.csv has all examples


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def share(value: float) -> str:
    """A share in percent; '-' where it is not known."""
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def of_standing(facts: Facts) -> Table:
    """Score, interval and accuracies of everything that was graded beside this."""
    rows = [
        (
            s["submission"] + (" (this page)" if s is facts.score else ""),
            f"{s['score']:.4f}",
            f"{s['interval'][0]:.4f} to {s['interval'][1]:.4f}",
            f"{s['projected']['score']:.4f}" if s["projected"] else "-",
            share(s["retain_accuracy"]),
            share(s["test_accuracy"]),
            "-" if s["seconds_per_run"] is None else f"{s['seconds_per_run']:.2f}",
        )
        for s in standing(facts.score, facts.results.others)
    ]
    return Table(("method", "score", f"{facts.level} interval", "at N = 512", "retain %", "test %", "s / run"), rows)


def of_gap(facts: Facts) -> Table:
    """Score with one repair, and what each is credited with."""
    gap = facts.gap
    rows = [("as it is", f"{gap.now:.4f}", "", "")]
    rows += [
        (REPAIRS[r.key], f"{r.alone:.4f}", f"{r.credit:.4f}", f"{100 * gap.share(r.key):.0f}") for r in gap.repairs
    ]
    rows += [("all of these", f"{gap.repaired:.4f}", f"{gap.repaired - gap.now:.4f}", "100")]
    total = len(facts.labels)
    note = f"Scored on {gap.examples} of {total} examples, evenly spaced. " if gap.examples < total else ""
    note += "Credit: what a repair adds, averaged over all orders in which the repairs can be made."
    return Table(("repair", "score with only this", "credit", "% of all"), rows, note)


def of_epsilons(facts: Facts) -> Table:
    """Examples by bin."""
    b = facts.bins
    names = [f"{low:g} to {high:g}" for low, high in zip(b.edges[:-1], b.edges[1:])]
    names += [f"more than {b.edges[-1]:g}", "50: told apart without error"]
    chance = ["-"] * len(names) if b.chance is None else [share(c) for c in b.chance]
    rows = [
        (name, f"{weight:.4g}", str(count), share(count / len(facts.epsilons)), f"{brought:.4f}", by_chance)
        for name, weight, count, brought, by_chance in zip(names, b.weight, b.count, b.brought, chance)
    ]
    head = ("epsilon", "points", "examples", "% of examples", "brings", "% retrained against retrained")
    return Table(head, rows, f"The last column compares {b.chance_runs} with {b.chance_runs} retrained models.")


def of_confidences(facts: Facts) -> Table:
    """Quantiles of the three distributions."""
    kinds = zip(KINDS, (facts.before, facts.theirs.ravel(), facts.ours.ravel()))
    rows = [
        (name, f"{v.mean():.2f}", f"{v.std():.2f}", *(f"{q:.2f}" for q in np.percentile(v, [5, 25, 50, 75, 95])))
        for name, v in kinds
    ]
    note = f"The figure has {BINS_ALL} bins; its ends hold all that lies beyond them."
    return Table(("models", "mean", "standard deviation", "5 %", "25 %", "median", "75 %", "95 %"), rows, note)


def of_example(facts: Facts, example: int) -> Table:
    """Histogram of one example, in ten bins."""
    ours, theirs = facts.ours[:, example], facts.theirs[:, example]
    edges = np.linspace(min(ours.min(), theirs.min()), max(ours.max(), theirs.max()), 11)
    each = zip(edges[:-1], edges[1:], shares(theirs, edges), shares(ours, edges))
    rows = [(f"{low:.2f} to {high:.2f}", share(them), share(us)) for low, high, them, us in each]
    note = f"The original model's confidence is {facts.before[example]:.2f}."
    return Table(("confidence", "% of retrained", "% of unlearned"), rows, note)


def of_plane(facts: Facts) -> Table:
    """Examples from the hardest, or as many as a table bears."""
    order = facts.ranked()[::-1]
    shown = order[spread_out(len(order), MOST_LINES)]
    rows = [
        (
            str(facts.image_ids[e]),
            str(facts.labels[e]),
            signed(facts.shift[e]),
            f"{np.exp(facts.log_ratio[e]):.2f}",
            f"{facts.epsilons[e]:.2f}",
            f"{facts.points[e]:.4g}",
        )
        for e in shown
    ]
    note = f"{len(shown)} of {len(order)} examples, evenly spaced from the hardest to the easiest; "
    note = (note if len(shown) < len(order) else "From the hardest to the easiest; ") + "figures/examples.csv has all. "
    note += "Epsilon: 0 where no attack tells unlearned from retrained models, 50 where one does without error. "
    note += "Points: what the example earns for it, 1 at most."
    return Table(("image", "class", "shift", "spread ratio", "epsilon", "points"), rows, note)


def of_accuracies(facts: Facts) -> Table:
    """Percent right by set."""
    a = facts.accuracies
    rows = [
        (split, *(_with_sd(a.mean[k, s], a.spread[k, s], k > 0) for k in range(len(KINDS))), str(a.size[s].sum()))
        for s, split in enumerate(SPLITS)
    ]
    return Table(("set", *(f"{k} %" for k in KINDS), "examples"), rows, "± is one standard deviation over the models.")


def _with_sd(mean: float, sd: float, several: bool) -> str:
    return f"{share(mean)} ± {100 * sd:.1f}" if several and not np.isnan(mean) else share(mean)


def of_classes(facts: Facts) -> Table:
    """Percent right by set and class: original / retrained / unlearned."""
    a = facts.accuracies
    rows = [
        (f"class {c}", *(" / ".join(share(a.by_class[k, s, c]) for k in range(len(KINDS))) for s in range(len(SPLITS))))
        for c in range(a.size.shape[1])
    ]
    return Table(("class", *(f"{s} %" for s in SPLITS)), rows, "Each cell: original / retrained / unlearned.")


def of_seconds(facts: Facts) -> Table:
    """Seconds by run, and why runs failed."""
    runs = list(facts.seconds)
    shown = [runs[k] for k in spread_out(len(runs), MOST_LINES)]
    rows = [(str(k), f"{facts.seconds[k]:.2f}", "") for k in shown]
    rows = [(str(k), "-", why) for k, why in sorted(facts.results.failures.items())] + rows
    note = f"{len(shown)} of {len(runs)} runs, evenly spaced." if len(shown) < len(runs) else ""
    return Table(("run", "seconds", "why it failed"), rows, note)


def as_csv(facts: Facts) -> str:
    """All examples, in the forget set's order."""
    lines = ["image_id,class,person,shift,spread_ratio,epsilon,points"]
    for e in range(len(facts.labels)):
        numbers = (facts.shift[e], np.exp(facts.log_ratio[e]), facts.epsilons[e], facts.points[e])
        names = (facts.image_ids[e], facts.labels[e], facts.persons[e])
        lines.append(",".join([*map(str, names), *(f"{x:.6g}" for x in numbers)]))
    return "\n".join(lines) + "\n"
