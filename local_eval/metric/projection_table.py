"""Mean points of one forget example by its shift and its spread ratio, Gaussian confidences, at several N.

`projection.py` needs to know where on the plane of (shift, log spread ratio) points are earned: to spend its redraws
there, and to weigh the noise of an estimate. It never takes a score from this table alone, so the table may be coarse.

Each cell is the mean of `REPEATS` runs of the real metric on fresh Gaussian draws (retrained: mean 0, sd `SPREAD`;
unlearned: mean shift * SPREAD, sd ratio * SPREAD), simulated once and shipped as projection_table.npz.

How to make it (about 5 minutes on one core): python -m local_eval.metric.projection_table
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from local_eval.metric.metric import example_epsilons, forgetting_points

FILE = Path(__file__).with_name("projection_table.npz")
SHIFTS = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2, 2.5, 3, 4, 5.5, 8])
LOG_RATIOS = np.array(
    [-4, -3, -2.2, -1.6, -1.2, -0.9, -0.7, -0.5, -0.35, -0.25, -0.15, -0.07]
    + [0, 0.07, 0.15, 0.25, 0.35, 0.5, 0.7, 0.9, 1.2, 1.6, 2.2, 3]
)
MODELS = np.array([64, 128, 256, 512, 1024])
SPREAD = 1.5  # wide enough that the score no longer depends on it
REPEATS = 100  # a cell is good to 10 %, a sum over cells to much less
FLOOR = 1e-6  # points below this are none: log points stay finite


def simulate_cell(shift: float, log_ratio: float, models: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """Points [repeats] of examples with this shift (in sd of retrained) and log spread ratio, by the real metric."""
    retrained = rng.normal(0.0, SPREAD, (models, repeats))
    unlearned = rng.normal(shift * SPREAD, np.exp(log_ratio) * SPREAD, (models, repeats))
    return forgetting_points(example_epsilons(unlearned, retrained), models)


def simulate_table(repeats: int = REPEATS) -> np.ndarray:
    """Mean points, float64 [len(MODELS), len(SHIFTS), len(LOG_RATIOS)]; every cell has a seed of its own."""
    table = np.empty((len(MODELS), len(SHIFTS), len(LOG_RATIOS)))
    for place in np.ndindex(table.shape):
        m, s, r = place
        rng = np.random.default_rng([*place, 2023])
        table[place] = simulate_cell(SHIFTS[s], LOG_RATIOS[r], int(MODELS[m]), repeats, rng).mean()
    return table


@lru_cache(maxsize=1)
def load_table() -> np.ndarray:
    """The shipped table, read-only: see `simulate_table`."""
    with np.load(FILE, allow_pickle=False) as stored:
        table = stored["points"].astype(np.float64)
    table.setflags(write=False)
    return table


def gaussian_points(shifts: np.ndarray, log_ratios: np.ndarray, models: int) -> np.ndarray:
    """Expected points of Gaussian examples at N = `models`, interpolated in log points; beyond the grid, its edge.

    Args:
        shifts, log_ratios: arrays of one shape; the sign of a shift does not matter.
        models: N of the score; between two tabulated N the log points are interpolated in log N.
    """
    place = np.interp(np.log(models), np.log(MODELS), np.arange(len(MODELS)))
    lower = min(int(place), len(MODELS) - 2)
    logs = np.log(np.maximum(load_table()[lower : lower + 2], FLOOR))
    mixed = logs[0] + (place - lower) * (logs[1] - logs[0])
    look_up = RegularGridInterpolator((SHIFTS, LOG_RATIOS), mixed, method="linear")
    inside = np.clip(np.abs(shifts), SHIFTS[0], SHIFTS[-1]), np.clip(log_ratios, LOG_RATIOS[0], LOG_RATIOS[-1])
    return np.exp(look_up(np.stack(inside, axis=-1)))


if __name__ == "__main__":
    np.savez_compressed(FILE, points=simulate_table().astype(np.float32))
    print(f"{FILE}: {FILE.stat().st_size} bytes")
