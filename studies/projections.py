"""How far the projection to N = 512 errs: on simulated families, whose truth is known, and on real models.

For each family: the truth (mean official score at N = 512 over fresh draws on the same examples), what the plain score
at the small N says, and over repeats the projection's median relative error, its bias, how often its 90 % interval
holds the truth, and its CPU time. Families held out while the method was built are marked.

How to run it (about 2 s a projection): python -m studies.projections [N] [E] [repeats] [models]
On real models: python -m studies.projections real TASK FOLDER_OF_RUNS FILE.csv
The tables of Gaussian points in the kit, made anew (8 minutes on one core): python -m studies.projections tables
"""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from local_eval.metric.metric import example_epsilons, forgetting_points, quality_of
from local_eval.metric.score import confidences
from local_eval.metric.uncertainty import projection
from local_eval.metric.uncertainty.projection import LOG_RATIOS, SHIFTS, ProjectionError, projection_of
from local_eval.report.page import figures
from local_eval.store.files import write_atomically
from local_eval.store.records import load_record
from local_eval.store.sealed import unseal
from local_eval.tasks.loading import load_task
from local_eval.tasks.task import Task

# Simulated families of unlearning methods, for the projection's study and tests: what is the truth is known here.
#
# A family draws (unlearned, retrained) confidences [N, E] each from a generator. An example's true shift, spread
# ratio and spread depend on its number alone, so that fresh draws are fresh runs of the same method on the same
# examples.


Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
Family = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]
Level = float | Callable[[int], np.ndarray]  # one for all examples, or E -> [E]
SPREAD = 1.5  # sd of retrained confidences: wide, as in the competition


def normal(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Standard normal residuals."""
    return rng.standard_normal(size)


def skewed(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Gamma of shape 2, standardised: skewness 1.4, a hard edge on the left."""
    return (rng.gamma(2, 1, size) - 2) / np.sqrt(2)


def skewed_down(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """The same mirrored."""
    return -skewed(rng, size)


def student(degrees: float) -> Draw:
    """Student's t, standardised."""
    return lambda rng, size: rng.standard_t(degrees, size) / np.sqrt(degrees / (degrees - 2))


def bimodal(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Two normals 5 sd apart, 70 and 30 %, standardised."""
    values = rng.standard_normal(size) + 5 * (rng.random(size) < 0.3)
    return (values - 1.5) / np.sqrt(1 + 25 * 0.21)


def spread_over(mean: float, sd: float, seed: int = 3, log: bool = False) -> Level:
    """Levels that are normal over the examples, or log-normal."""

    def levels(examples: int) -> np.ndarray:
        values = mean + sd * np.random.default_rng(seed).standard_normal(examples)
        return np.exp(values) if log else values

    return levels


def split(first: float, second: float, share: float = 0.5) -> Level:
    """One level for a share of the examples, another for the rest."""
    return lambda examples: np.where(np.arange(examples) < share * examples, first, second)


def family(
    shift: Level = 0.0, ratio: Level = 1.0, spread: Level = SPREAD, unlearned: Draw = normal, retrained: Draw = normal
) -> Family:
    """Independent confidences: retrained spread * residual, unlearned spread * (shift + ratio * residual)."""

    def draw(rng: np.random.Generator, models: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
        size = (models, examples)
        level = [each(examples) if callable(each) else each for each in (shift, ratio, spread)]
        return level[2] * (level[0] + level[1] * unlearned(rng, size)), level[2] * retrained(rng, size)

    return draw


def with_outliers(rate: float, reach: float, whole_runs: bool) -> Family:
    """Perfect unlearning, but a share of the runs (or of single confidences) is shifted by `reach` sd."""

    def draw(rng: np.random.Generator, models: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
        unlearned, retrained = family()(rng, models, examples)
        size = (models, 1) if whole_runs else (models, examples)
        return unlearned + reach * SPREAD * (rng.random(size) < rate), retrained

    return draw


def correlated(share: float, shift: Level, per_person: int | None) -> Family:
    """Examples of a person (None: all) share `share` of the variance of their residuals in each run."""

    def residuals(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        person = np.arange(size[1]) // per_person if per_person else np.zeros(size[1], dtype=int)
        common = rng.standard_normal((size[0], person[-1] + 1))[:, person]
        return np.sqrt(share) * common + np.sqrt(1 - share) * rng.standard_normal(size)

    return family(shift, unlearned=residuals, retrained=residuals)


def saturated(rng: np.random.Generator, models: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Spreads that differ tenfold, places up to both ends at +-103.6."""
    place = np.clip(np.random.default_rng(9).normal(0, 60, examples), -102, 102)
    pair = family(0.3, spread=spread_over(0, 1, 8, log=True))(rng, models, examples)
    return tuple(np.clip(side + place, -103.6, 103.6) for side in pair)


LISTED: dict[str, Family] = {
    "perfect": family(),
    "good: shift .3": family(0.3),
    "good: shifts of sd .3": family(spread_over(0, 0.3)),
    "starter-like": family(spread_over(0.8, 0.5), spread_over(-0.43, 0.15, 4, log=True)),
    "bad: shift 2": family(2.0),
    "bad: shifts 3, sd 1": family(spread_over(3.0, 1.0)),
    "too wide: ratio 1.5": family(0.0, 1.5),
    "mixed: half 0, half 1": family(split(0.0, 1.0)),
    "skewed up, .3, .9": family(0.3, 0.9, unlearned=skewed),
    "skewed down, .3, .9": family(0.3, 0.9, unlearned=skewed_down),
    "skewed up, .8, .7": family(0.8, 0.7, unlearned=skewed),
    "skewed, both sides alike": family(unlearned=skewed, retrained=skewed),
    "t5, both sides alike": family(unlearned=student(5), retrained=student(5)),
    "t5, both sides, shift .5": family(0.5, unlearned=student(5), retrained=student(5)),
    "t5, unlearned only, .3": family(0.3, unlearned=student(5)),
    "2 % outlier runs, 5 sd": with_outliers(0.02, 5.0, True),
    "2 % outlier values, 5 sd": with_outliers(0.02, 5.0, False),
    "two kinds: 0/1, 1.5/.6": family(split(0.0, 1.5), split(1.0, 0.6)),
    "two kinds: .2/1, -.6/.8": family(split(0.2, -0.6, 0.3), split(1.0, 0.8, 0.3), split(0.8, 3.0, 0.3)),
}

HELD_OUT: dict[str, Family] = {
    "too narrow: ratio .7": family(0.0, 0.7),
    "narrow and shifted: .5, .4": family(0.5, 0.4),
    "wide and shifted: .5, 1.3": family(0.5, 1.3),
    "shifts of sd .5 and 1.5": family(lambda examples: split(0.5, 1.5)(examples) * spread_over(0, 1)(examples)),
    "sd .3, perfect": family(spread=0.3),
    "sd .3, shift .5": family(0.5, spread=0.3),
    "sd 5, shift .5": family(0.5, spread=5.0),
    "spreads differ tenfold, .4": family(0.4, spread=spread_over(0, 1.1, 8, log=True)),
    "ends at +-103.6": saturated,
    "correlation .5, perfect": correlated(0.5, 0.0, None),
    "correlation .5, shift .5": correlated(0.5, 0.5, None),
    "persons of 10, .8, shift .4": correlated(0.8, 0.4, 10),
    "bimodal retrained": family(retrained=bimodal),
    "bimodal, both, shift .3": family(0.3, unlearned=bimodal, retrained=bimodal),
    "t3 retrained": family(retrained=student(3)),
    "t3, both sides alike": family(unlearned=student(3), retrained=student(3)),
    "Laplace unlearned, .5, .9": family(0.5, 0.9, unlearned=lambda rng, size: rng.laplace(0, np.sqrt(0.5), size)),
    "uniform, both, shift .2": family(
        0.2, unlearned=lambda r, s: r.uniform(-1.73, 1.73, s), retrained=lambda r, s: r.uniform(-1.73, 1.73, s)
    ),
    "90 % shift 2.5, 10 % perfect": family(split(2.5, 0.0, 0.9)),
    "4 % outlier values, 3 sd": with_outliers(0.04, 3.0, False),
    "6 % outlier runs, 4 sd": with_outliers(0.06, 4.0, True),
}


# How far the projection errs on real models: from disjoint groups of 512 runs and oracles to the score of all.
#
# What a group of N runs and N oracles projects to 512 stands beside what all 512 give, and beside its plain score.
# Groups share nothing, but the value at 512 is made of all, so a projection has it a little easier than one to fresh
# runs would.


MODELS, SIZES = 512, (32, 64, 128)
COLUMNS = ("method", "models", "group", "plain", "projected", "low", "high", "true_at_512", "ratio")


def confidences_in(folder: Path, task: Task, count: int) -> np.ndarray:
    """Confidences [count, E] of the first records in a folder. Raises RecordError, FileNotFoundError."""
    shape, records = (len(task.forget), task.num_classes), []
    for index in range(count):
        path = folder / f"{index:04d}.npz"
        about = json.loads(str(unseal(path)[0]["about"]))
        records.append(load_record(path, about["identity"], shape))
    return confidences(records, task.forget.labels.numpy())


def name_of(folder: Path) -> str:
    """The method in a folder of runs, with its changed constants if it has been graded; else its file's name."""
    try:
        return json.loads((folder / "score.json").read_text())["submission"]
    except FileNotFoundError:
        return folder.name.rpartition("-seed")[0].rpartition("-")[0]


def rows_of(name: str, unlearned: np.ndarray, retrained: np.ndarray, persons: np.ndarray) -> list[tuple]:
    """A row for every group of every size, from confidences [MODELS, E]."""
    true, found = quality_of(unlearned, retrained), []
    for size in SIZES:
        for group in range(MODELS // size):
            one = slice(group * size, (group + 1) * size)
            p = projection_of(unlearned[one], retrained[one], models=MODELS, persons=persons)
            numbers = quality_of(unlearned[one], retrained[one]), p.value, p.low, p.high, true, p.value / true
            found.append((name, size, group, *(f"{value:.4g}" for value in numbers)))
    return found


def main_real(spec: str, folder: Path, to: Path) -> None:
    """Write the rows of every method in a folder that has 512 runs of one seed."""
    task = load_task(spec)
    persons, oracles = task.forget.person_id.numpy(), confidences_in(folder / "oracles", task, MODELS)
    rows = []
    for runs in sorted(path for path in folder.glob("*-seed*") if (path / f"{MODELS - 1:04d}.npz").exists()):
        try:
            rows += rows_of(name_of(runs), confidences_in(runs, task, MODELS), oracles, persons)
        except ProjectionError as error:
            print(f"{runs.name} is left out: {error}", file=sys.stderr)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_atomically(to, text.getvalue().encode())
    for size in SIZES:
        some = [[float(cell) for cell in row[5:]] for row in rows if row[1] == size]
        if some:
            low, high, true, ratios = np.array(some).T
            held, error = np.mean((low <= true) & (true <= high)), np.exp(np.median(np.abs(np.log(ratios))))
            ends = f"{ratios.min():.2f} to {ratios.max():.2f}"
            print(
                f"from {size}: median ratio {np.median(ratios):.2f}, {ends}; median factor {error:.2f}; held {held:.2f}"
            )


# The tables of Gaussian points that the projection and the page ship: what the real metric gives on fresh draws.


REPEATS = 100  # a cell is good to 10 %, a sum over cells to much less


def simulate_cell(shift: float, log_ratio: float, models: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """Points [repeats] of examples with this shift (in sd of retrained) and log spread ratio, by the real metric."""
    retrained = rng.normal(0.0, SPREAD, (models, repeats))
    unlearned = rng.normal(shift * SPREAD, np.exp(log_ratio) * SPREAD, (models, repeats))
    return forgetting_points(example_epsilons(unlearned, retrained), models)


def simulate_table(models: np.ndarray, seed: int, repeats: int = REPEATS) -> np.ndarray:
    """Mean points, float64 [len(models), len(SHIFTS), len(LOG_RATIOS)]; every cell has a seed of its own."""
    table = np.empty((len(models), len(SHIFTS), len(LOG_RATIOS)))
    for place in np.ndindex(table.shape):
        m, s, r = place
        rng = np.random.default_rng([*place, seed])
        table[place] = simulate_cell(SHIFTS[s], LOG_RATIOS[r], int(models[m]), repeats, rng).mean()
    return table


def main_tables() -> None:
    """Simulate the tables anew and put them where they are shipped."""
    for file, models, seed in ((projection.FILE, projection.MODELS, 2023), (figures.FILE, figures.FEW, 2024)):
        np.savez_compressed(file, points=simulate_table(models, seed).astype(np.float32))
        print(f"{file}: {file.stat().st_size} bytes")


# The study on simulated families.


SCORED = 2000  # examples that a truth is the mean of: noise of about 2 % unless few examples hold all the points
SEED = 7


def truth(family: Family, models: int, examples: int, scored: int = SCORED) -> float:
    """Mean official score at N = `models` over fresh draws on the same examples."""
    draws = max(2, scored // examples)
    return float(np.mean([quality_of(*family(np.random.default_rng([99, k]), models, examples)) for k in range(draws)]))


def measure(family: Family, count: int, examples: int, repeats: int, models: int) -> dict[str, float]:
    """Truth, plain score, median relative error, bias, coverage and mean CPU seconds over `repeats` projections."""
    true = truth(family, models, examples)
    plain, values, held, seconds = [], [], [], []
    for k in range(repeats):
        pair = family(np.random.default_rng([SEED, k]), count, examples)
        start = time.process_time()
        try:
            found = projection_of(*pair, models=models)
        except ProjectionError:
            continue
        seconds.append(time.process_time() - start)
        values.append(found.value)
        held.append(found.low <= true <= found.high)
        if k < 2:  # the plain score is for orientation only
            plain.append(quality_of(*pair))
    off = np.array(values) / true - 1
    return {
        "truth": true,
        "plain": float(np.mean(plain)),
        "error": float(np.median(np.abs(off))),
        "bias": float(off.mean()),
        "coverage": float(np.mean(held)),
        "seconds": float(np.mean(seconds)),
    }


def main(count: int = 64, examples: int = 500, repeats: int = 10, models: int = 512) -> None:
    """Print the table."""
    print(f"N = {count}, E = {examples}, {repeats} repeats, projected to {models}\n")
    print("| family | truth | plain score | median error | bias | coverage | s |\n|---|---|---|---|---|---|---|")
    for group, families in (("", LISTED), (" (held out)", HELD_OUT)):
        rows = []
        for name, family in families.items():
            row = measure(family, count, examples, repeats, models)
            rows.append((row["error"], row["coverage"]))
            print(
                f"| {name}{group} | {row['truth']:.4g} | {row['plain']:.4f} | {row['error']:.2f} | {row['bias']:+.2f} "
                f"| {row['coverage']:.2f} | {row['seconds']:.1f} |",
                flush=True,
            )
        errors, held = np.array(rows).T
        summary = f"median error {np.median(errors):.3f}, worst {errors.max():.3f}, coverage {held.mean():.2f}"
        print(f"| **all{group}**: {summary} | | | | | | |", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["tables"]:
            main_tables()
        case ["real", spec, folder, to]:
            main_real(spec, Path(folder), Path(to))
        case numbers:
            main(*map(int, numbers))
