"""Each figure of a page with its words: what good looks like, what is seen, alt text, and the table behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from local_eval.metric.score import BUDGET_SECONDS
from local_eval.report.columns import (
    AT_512,
    INTERVAL,
    METHOD,
    RETAIN_PERCENT,
    SCORE,
    SECONDS,
    TEST_PERCENT,
    Row,
    cells,
    in_percent,
)
from local_eval.report.page.facts import KINDS, Facts, spread_out, standing
from local_eval.report.page.figures import (
    BINS_ALL,
    MOST_CLASSES,
    MOST_DOTS,
    MOST_ROWS,
    REPAIRS,
    plane_limits,
    plot_accuracies,
    plot_classes,
    plot_confidences,
    plot_epsilons,
    plot_example,
    plot_gap,
    plot_plane,
    plot_seconds,
    plot_standing,
    shares,
)
from local_eval.report.page.words import change_in_points, in_points, percent, place, signed
from local_eval.store.errors import many
from local_eval.store.records import SPLITS

BESIDE_IT = AT_512, RETAIN_PERCENT, TEST_PERCENT, SECONDS
MOST_LINES = 120  # of a table; examples.csv has all examples


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def of_standing(facts: Facts) -> Table:
    """Score, interval and accuracies of everything that was graded beside this."""
    columns = METHOD, SCORE, INTERVAL.titled(f"{facts.level} interval"), *BESIDE_IT
    ranked = standing(facts.result, facts.source.others)
    rows = [Row(one["submission"] + (" (this page)" if one is facts.result else ""), one) for one in ranked]
    head, *lines = map(tuple, cells(columns, rows))
    return Table(head, lines)


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
    chance = ["-"] * len(names) if b.chance is None else [in_percent(c) for c in b.chance]
    rows = [
        (name, f"{weight:.4g}", str(count), in_percent(count / len(facts.epsilons)), f"{brought:.4f}", by_chance)
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
    rows = [(f"{low:.2f} to {high:.2f}", in_percent(them), in_percent(us)) for low, high, them, us in each]
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
    return f"{in_percent(mean)} ± {100 * sd:.1f}" if several and not np.isnan(mean) else in_percent(mean)


def of_classes(facts: Facts) -> Table:
    """Percent right by set and class: original / retrained / unlearned."""
    a = facts.accuracies
    by_split = a.by_class.transpose(2, 1, 0)  # [C, 4, 3]
    rows = [(f"class {c}", *(" / ".join(map(in_percent, kinds)) for kinds in one)) for c, one in enumerate(by_split)]
    return Table(("class", *(f"{s} %" for s in SPLITS)), rows, "Each cell: original / retrained / unlearned.")


def of_seconds(facts: Facts) -> Table:
    """Seconds by run, and why runs failed."""
    runs = list(facts.seconds)
    shown = [runs[k] for k in spread_out(len(runs), MOST_LINES)]
    rows = [(str(k), f"{facts.seconds[k]:.2f}", "") for k in shown]
    rows = [(str(k), "-", why) for k, why in sorted(facts.source.failures.items())] + rows
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


NOT_MEANS = "Being alike here is not yet forgetting: an attack looks at one example at a time, not at all together."


@dataclass(frozen=True)
class Block:
    """One figure of the page. `key` is unique: it names the PNG and goes before the ids of the SVG."""

    key: str
    title: str
    shows: str
    good: str
    here: str
    figure: Figure
    table: Table
    example: int | None = None  # whose image stands beside it

    @property
    def alt(self) -> str:
        """What the figure would say to somebody who cannot see it."""
        return f"{self.title}. {self.shows} {self.here}"


def standing_block(facts: Facts) -> Block | None:
    """Where the method stands among what was graded here; None if nothing else was: one mark tells nothing new."""
    if not facts.source.others:
        return None
    here, total = place(facts), len(facts.source.others) + 1
    if total > MOST_ROWS:
        here += f" The figure shows {MOST_ROWS} of them, the table all."
    shows = (
        f"Scores at N = {facts.models} with their {facts.level} intervals; the dashed line is what retraining gets "
        "against itself."
    )
    good = "A mark near the dashed line, with a bar that does not reach the marks of others."
    return Block("standing", "Where it stands", shows, good, here, plot_standing(facts), of_standing(facts))


def gap_block(facts: Facts) -> Block | None:
    """What repairs would bring; None where none can be tried."""
    if facts.gap is None:
        return None
    gap = facts.gap
    here = f"As it is, {gap.now:.4f}; with everything put right, {gap.repaired:.4f}."
    if gap.repaired > facts.result["ceiling"]:
        here += " That it exceeds the ceiling means nothing: both have noise, and a repair is only arithmetic."
    shows = (
        f"The score that these runs would have, at N = {facts.models}, if one thing about their confidences were put "
        "right, all else left as it is."
    )
    good = "A first bar that reaches the dashed line. A long bar below it names what to work on."
    return Block("repairs", "What a repair would bring", shows, good, here, plot_gap(facts), of_gap(facts))


def epsilons_block(facts: Facts) -> Block:
    """Epsilons by official bins."""
    b = facts.bins
    best, capped = percent(b.count[:4].sum() / b.count.sum()), percent(b.count[-1] / b.count.sum())
    shows = (
        "Epsilon says how well the best attack on an example tells unlearned from retrained models: 0 not at all, 50 "
        "without error. Below 0.5 the example earns 1 point, below 1 half a point, below 1.5 a quarter, and so on; the "
        "mean is the forgetting quality. Above: how many examples. Below: what they bring to that mean."
    )
    good = "Bars like the blue outline. Even retraining hardly ever gets below 0.5: the best of many attacks has luck."
    here = f"{best} of the examples have an epsilon below 2; {capped} are told apart without error."
    return Block(
        "epsilons", "How well each example is forgotten", shows, good, here, plot_epsilons(facts),
        of_epsilons(facts),
    )  # fmt: skip


def confidences_block(facts: Facts) -> Block:
    """The three distributions over the whole forget set."""
    ours, theirs = np.median(facts.ours), np.median(facts.theirs)
    shows = "How sure the models are of the right class, over all forget examples and models, as a logarithm of odds."
    good = "The orange outline on the blue area. Grey is the original model, before unlearning."
    here = f"Medians: original {np.median(facts.before):.2f}, retrained {theirs:.2f}, unlearned {ours:.2f}. {NOT_MEANS}"
    return Block(
        "confidences", "Confidence on the whole forget set", shows, good, here, plot_confidences(facts),
        of_confidences(facts),
    )  # fmt: skip


def example_blocks(facts: Facts) -> list[Block]:
    """The easiest, the median and the hardest example."""
    order = facts.ranked()
    chosen = {"easiest": order[0], "median": order[(len(order) - 1) // 2], "hardest": order[-1]}
    return [example_block(facts, name, int(e)) for name, e in chosen.items()]


def example_block(facts: Facts, name: str, example: int) -> Block:
    """One example."""
    about = f"Image {facts.image_ids[example]}, labelled class {facts.labels[example]}"
    here = f"{about}: epsilon {facts.epsilons[example]:.2f}, {in_points(facts.points[example])}."
    shows = f"Confidence of {facts.models} unlearned and {facts.models} retrained models on one example."
    return Block(
        name, f"The {name} example", shows, "The orange outline on the blue area.", here, plot_example(facts, example),
        of_example(facts, example), example,
    )  # fmt: skip


def plane_block(facts: Facts) -> Block:
    """Shift against spread ratio."""
    wide, tall = plane_limits(facts)
    outside = int(((np.abs(facts.shift) > wide) | (np.abs(facts.log_ratio) > tall)).sum())
    here = (
        f"Median shift {signed(np.median(facts.shift))}, where left and right cancel; without the sign "
        f"{np.median(np.abs(facts.shift)):.2f}. Median spread ratio {np.exp(np.median(facts.log_ratio)):.2f}."
    )
    if facts.outliers:
        here += " Outlier runs are left out of both."
    if outside:
        lies = "lies beyond the edges and is drawn on them" if outside == 1 else "lie beyond the edges, drawn on them"
        here += f" {many(outside, 'example')} {lies}."
    if len(facts.shift) > MOST_DOTS:
        here += f" {len(spread_out(len(facts.shift), MOST_DOTS))} of {len(facts.shift)} are drawn, evenly spaced."
    shows = (
        "One dot an example. Sideways: how much surer of the right class unlearned models are than retrained ones, in "
        "spreads (standard deviations over retrained models). Upwards: how widely they differ from run to run, against "
        "those. The green lines are what an example there would earn, of 1 point at most, if confidences were normally "
        f"distributed, at N = {facts.models}."
    )
    good = "A cloud about the cross, inside the innermost line."
    return Block("plane", "Shift and spread of every example", shows, good, here, plot_plane(facts), of_plane(facts))


def accuracies_block(facts: Facts) -> Block:
    """Accuracies on the four sets."""
    a, missing = facts.accuracies, facts.accuracies.missing()
    ours, theirs = a.mean[2, SPLITS.index("forget")], a.mean[1, SPLITS.index("forget")]
    here = f"Forget set: unlearned {percent(ours, 1)}, retrained {percent(theirs, 1)}. {NOT_MEANS}"
    if missing:
        here += f" The records of the {' and the '.join(missing)} models do not hold their accuracy on validation."
    shows = (
        "Right answers of the original, the retrained and the unlearned models, with one standard deviation over "
        "models. Retain is to be remembered, forget to be forgotten, validation and test were never trained on."
    )
    good = "Orange on blue in every row, on the forget set too: neither more nor less."
    return Block("accuracies", "Accuracy", shows, good, here, plot_accuracies(facts), of_accuracies(facts))


def classes_block(facts: Facts) -> Block:
    """Test accuracy by class."""
    missing = facts.accuracies.missing()
    test = facts.accuracies.by_class[:, SPLITS.index("test")]
    other = test[0 if missing else 1]
    lost = test[2] - other
    here = "No class has test examples."
    if np.isfinite(lost).any():
        worst = int(np.nanargmin(lost))
        fall = max(-change_in_points(test[2, worst], other[worst]), 0.0)
        here = f"The largest loss is {fall:.1f} percentage points, in class {worst}."
    if missing:
        here += f" Not kept by class for the {' and the '.join(missing)} models; compared with the original."
    if (total := test.shape[1]) > MOST_CLASSES:
        here += f" The figure shows the first {MOST_CLASSES} of {total} classes, the table all."
    shows = "Right answers on the test set by class."
    good = "Orange on blue in every row: forgetting some examples should not cost a class."
    return Block("classes", "Accuracy by class", shows, good, here, plot_classes(facts), of_classes(facts))


def seconds_block(facts: Facts) -> Block:
    """Time, and runs that failed."""
    seconds, failed = np.array(list(facts.seconds.values())), facts.source.failures
    here = "The seconds of these models are not known: they were made elsewhere."
    if len(seconds):
        here = f"Median {np.median(seconds):.3g} s, slowest {seconds.max():.3g} s."
    here += f" {many(len(failed), 'run')} failed." if failed else " No run failed."
    shows = "Seconds of every run on this machine; crosses are runs that failed."
    good = f"A flat line below {BUDGET_SECONDS:g} s, Kaggle's budget on its GPU, and no crosses."
    return Block("seconds", "Time", shows, good, here, plot_seconds(facts), of_seconds(facts))
