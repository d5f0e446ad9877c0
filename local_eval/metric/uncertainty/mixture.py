"""The distribution over forget examples of (shift, log spread ratio), with the noise of few models taken out.

Each example shows its pair with a known noise covariance. The true pairs are taken to follow a mixture of a point at
(0, 0), which is perfect unlearning, and of up to three Gaussians of any covariance, down to none. EM fits each such
mixture by maximum likelihood (extreme deconvolution: Bovy, Hogg and Roweis 2011, Annals of Applied Statistics 5), BIC
picks one. A Gaussian whose covariance EM can shrink to nothing does not smear a true point over the width of the noise,
as masses on a free grid do; the score has a cusp at zero, so this decides whether good methods are seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

LEAP_EVERY, LEAP = 10, 10.0  # rounds between leaps, and how far these go, in moves of that many rounds
GAUSSIANS = 3  # at most; a fourth was not seen to be picked
FEWEST_INDEPENDENT = 10  # examples: below, log(independent) would let the richest mixture win
TINY = 1e-12  # keeps logarithms and divisions finite


@dataclass(frozen=True)
class Mixture:
    """K components: weights [K], means [K, 2], covariances [K, 2, 2]; if `pinned`, the first is the point (0, 0)."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    pinned: bool

    @property
    def free(self) -> int:
        """Number of fitted parameters: a weight per component but one, five per Gaussian, two per point elsewhere."""
        points = np.abs(self.covariances).max(axis=(1, 2)) == 0
        return len(self.weights) - 1 + int(np.where(points, 2, 5).sum()) - 2 * self.pinned


def fit_mixture(pairs: np.ndarray, noise: np.ndarray, independent: float, rounds: int) -> Mixture:
    """The mixture of best BIC.

    Args:
        pairs: [E, 2] observed (shift, log ratio).
        noise: [E, 2, 2] their noise covariances.
        independent: the number of independent examples (persons), which prices a parameter.
        rounds: of EM for each mixture tried.
    """
    best, best_score = None, np.inf
    for start in _starts(pairs, noise):
        mixture = improve(start, pairs, noise, rounds)
        score = mixture.free * np.log(max(independent, FEWEST_INDEPENDENT)) - 2 * log_likelihood(mixture, pairs, noise)
        if score < best_score - 1e-9:
            best, best_score = mixture, score
    return best


def improve(mixture: Mixture, pairs: np.ndarray, noise: np.ndarray, rounds: int) -> Mixture:
    """`rounds` of EM from `mixture`, with leaps.

    EM takes ever smaller steps as a covariance nears nothing. So every LEAP_EVERY rounds the covariances go on as they
    went, LEAP times as far, if that raises the likelihood.
    """
    last = mixture
    for k in range(1, rounds + 1 if mixture.free else 1):
        mixture = _round(mixture, pairs, noise)
        if k % LEAP_EVERY == 0:
            far = _positive(mixture.covariances + LEAP * (mixture.covariances - last.covariances))
            leapt = replace(mixture, covariances=far)
            if log_likelihood(leapt, pairs, noise) > log_likelihood(mixture, pairs, noise):
                mixture = leapt
            last = mixture
    return mixture


def _round(mixture: Mixture, pairs: np.ndarray, noise: np.ndarray) -> Mixture:
    """One round: weights and covariances by EM, then means by maximum likelihood given these and the shares."""
    shares, true, covariances = posterior(mixture, pairs, noise)
    total = shares.sum(axis=0) + TINY
    off = true - mixture.means
    spread = covariances + off[..., :, None] * off[..., None, :]
    fitted = np.einsum("ek,ekcd->kcd", shares, spread) / total[:, None, None]
    # Not the mean of the true pairs: where a covariance is nothing, these are the old mean and nothing would move.
    weight = shares[..., None, None] * _log_joint(mixture, pairs, noise)[2]
    pull = np.einsum("ekcd,ed->kc", weight, pairs)
    means = np.linalg.solve(weight.sum(axis=0) + TINY * np.eye(2), pull[..., None])[..., 0]
    if mixture.pinned:
        means[0] = 0.0
    return Mixture(total / total.sum(), means, fitted, mixture.pinned)


def _positive(matrices: np.ndarray) -> np.ndarray:
    """The nearest positive semidefinite matrices [K, 2, 2]."""
    values, vectors = np.linalg.eigh(matrices)
    return (vectors * np.maximum(values, 0.0)[:, None, :]) @ np.swapaxes(vectors, -1, -2)


def log_likelihood(mixture: Mixture, pairs: np.ndarray, noise: np.ndarray) -> float:
    """Log likelihood of all observed pairs [E, 2]."""
    return float(np.logaddexp.reduce(_log_joint(mixture, pairs, noise)[0], axis=1).sum())


def posterior(mixture: Mixture, pairs: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per example and component: share [E, K], mean [E, K, 2] and covariance [E, K, 2, 2] of the true pair."""
    joint, off, inverse = _log_joint(mixture, pairs, noise)
    shares = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
    gain = mixture.covariances @ inverse
    means = mixture.means + np.einsum("ekcd,ekd->ekc", gain, off)
    covariances = mixture.covariances - gain @ mixture.covariances
    return shares, means, covariances


def _log_joint(mixture: Mixture, pairs: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log of weight times density [E, K], distance to the mean [E, K, 2], inverse of the total covariance."""
    total = mixture.covariances + noise[:, None]
    off = pairs[:, None] - mixture.means
    a, b, d = total[..., 0, 0], total[..., 0, 1], total[..., 1, 1]
    determinant = np.maximum(a * d - b * b, TINY)
    inverse = np.empty_like(total)
    inverse[..., 0, 0], inverse[..., 1, 1] = d / determinant, a / determinant
    inverse[..., 0, 1] = inverse[..., 1, 0] = -b / determinant
    x, y = off[..., 0], off[..., 1]
    square = (d * x * x - 2 * b * x * y + a * y * y) / determinant
    joint = np.log(mixture.weights + TINY) - 0.5 * (square + np.log(determinant)) - np.log(2 * np.pi)
    return joint, off, inverse


def _starts(pairs: np.ndarray, noise: np.ndarray) -> list[Mixture]:
    """Starting points: all perfect; 1 to GAUSSIANS Gaussians along either axis, or points; the same beside (0, 0)."""
    origin = np.zeros((1, 2)), np.zeros((1, 2, 2))
    starts = [Mixture(np.ones(1), *origin, True)]
    broad = np.cov(pairs.T) + noise.mean(axis=0)
    for count in range(1, GAUSSIANS + 1):
        for axis, wide in ((0, 1.0), (1, 1.0), (0, 0.0)) if count > 1 else ((0, 1.0), (0, 0.0)):
            groups = np.array_split(np.argsort(pairs[:, axis], kind="stable"), count)
            means = np.array([pairs[group].mean(axis=0) for group in groups])
            covariances = np.repeat(wide * broad[None] / count**2, count, axis=0)
            starts.append(Mixture(np.full(count, 1 / count), means, covariances, False))
            if count < GAUSSIANS:
                beside = np.concatenate([origin[0], means]), np.concatenate([origin[1], covariances])
                starts.append(Mixture(np.full(count + 1, 1 / (count + 1)), *beside, True))
    return starts
