"""Points that a perfect Gaussian would earn, by shift and spread ratio: the ground on which the plane's dots lie.

From 64 models on it is the projection's own table. Below, two more N are tabulated here, in the same way.

How to make the table (about 5 minutes on one core): python -m local_eval.report.page.contours
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter

from local_eval.metric.projection_table import (
    FLOOR,
    LOG_RATIOS,
    MODELS,
    REPEATS,
    SHIFTS,
    gaussian_points,
    load_table,
    simulate_cell,
)

FILE = Path(__file__).with_name("contours.npz")
FEW = np.array([16, 32])  # N below the projection's smallest
SMOOTH = 2.0  # grid steps: the tables' noise of some 10 % a cell would show as wiggles


@lru_cache(maxsize=1)
def _small_table() -> np.ndarray:
    """Log points [3, shifts, ratios] at N = 16, 32 and 64."""
    with np.load(FILE, allow_pickle=False) as stored:
        few = stored["points"].astype(np.float64)
    return np.log(np.maximum(np.concatenate([few, load_table()[:1]]), FLOOR))


def expected_points(shifts: np.ndarray, log_ratios: np.ndarray, models: int) -> np.ndarray:
    """Mean points of Gaussian examples at N = `models`; arrays of one shape. Beyond the tables, their edge."""
    if models >= MODELS[0]:
        return gaussian_points(shifts, log_ratios, models)
    known = np.log([*FEW, MODELS[0]])
    look_up = RegularGridInterpolator((known, SHIFTS, LOG_RATIOS), _small_table())
    place = np.clip(np.log(models), known[0], known[-1])
    inside = np.clip(np.abs(shifts), 0, SHIFTS[-1]), np.clip(log_ratios, LOG_RATIOS[0], LOG_RATIOS[-1])
    return np.exp(look_up(np.stack([np.full(np.shape(shifts), place), *inside], axis=-1)))


def ground(shifts: np.ndarray, log_ratios: np.ndarray, models: int) -> np.ndarray:
    """Smoothed points [ratios, shifts] on a grid, for contours."""
    grid = np.meshgrid(shifts, log_ratios)
    return np.exp(gaussian_filter(np.log(expected_points(*grid, models)), SMOOTH, mode="nearest"))


def simulate_few(repeats: int = REPEATS) -> np.ndarray:
    """Mean points [2, shifts, ratios] at N = 16 and 32; every cell has a seed of its own."""
    table = np.empty((len(FEW), len(SHIFTS), len(LOG_RATIOS)))
    for place in np.ndindex(table.shape):
        n, s, r = place
        rng = np.random.default_rng([*place, 2024])
        table[place] = simulate_cell(SHIFTS[s], LOG_RATIOS[r], int(FEW[n]), repeats, rng).mean()
    return table


if __name__ == "__main__":
    np.savez_compressed(FILE, points=simulate_few().astype(np.float32))
    print(f"{FILE}: {FILE.stat().st_size} bytes")
