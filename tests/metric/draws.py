"""Confidences of the simulated families of methods, for the tests of the projection."""

import numpy as np

from studies.projections import LISTED

SIZE = 64, 100  # models of a side, forget examples


def draw(name: str, seed: int = 0, models: int = SIZE[0], examples: int = SIZE[1]) -> tuple[np.ndarray, np.ndarray]:
    """Unlearned and retrained confidences [N, E] of a listed family."""
    return LISTED[name](np.random.default_rng(seed), models, examples)
