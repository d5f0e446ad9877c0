"""The attacks on one forget example: thresholds and intervals over two sorted samples of confidences.

Why it is fast. An attack is a threshold, or an interval, laid over two samples of N confidences, and its error rates
are counts over N. So count by binary search in the sorted samples, and read epsilon from a table with one entry per
pair of counts. Only thresholds at which a count changes matter, so neither time nor memory grows with the grid.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

DELTA = 1e-5  # of (epsilon, delta)-unlearning
THRESHOLDS_PER_UNIT = 100
INTERVAL_BUFFER = 2.0  # interval ends are tried this far around the peakier sample
LEFT_ENDS = int(np.ceil(2 * INTERVAL_BUFFER * THRESHOLDS_PER_UNIT))  # left ends tried for each right end
ROWS = 64  # right ends handled at a time, so that the work stays in the cache
CELLS = 1 << 15  # of the counting grid: fine enough that few thresholds share a cell with a sample


@lru_cache(maxsize=8)
def epsilon_table(models: int) -> np.ndarray:
    """float32 [N+1, N+1]: epsilon for (false positives, false negatives); -inf where the attack is discarded.

    epsilon = max(log(1 - delta - FPR) - log FNR, log(1 - delta - FNR) - log FPR), Kairouz et al. 2015, in float32.
    Exactly one rate at zero: discarded. Both: infinite.
    """
    rate = np.arange(models + 1, dtype=np.float32) / np.float32(models)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.log(np.float32(1 - DELTA) - rate)
        log_rate = np.log(rate)
        table = np.fmax(reach[:, None] - log_rate[None, :], reach[None, :] - log_rate[:, None])
    table = np.maximum(table, np.float32(0))
    table[np.isnan(table)] = -np.inf
    table[0, :] = table[:, 0] = -np.inf
    table[0, 0] = np.inf
    table.setflags(write=False)  # it is shared by every caller
    return table


@lru_cache(maxsize=8)
def _by_hits(models: int) -> np.ndarray:
    """The same table, flat, at false_positives * (N + 1) + true positives."""
    return epsilon_table(models)[:, ::-1].ravel()


def best_threshold(positive: np.ndarray, negative: np.ndarray) -> float:
    """Best attack 'at least t means positive', t on the official float32 grid between the pooled extremes."""
    low, high = min(positive[0], negative[0]), max(positive[-1], negative[-1])
    thresholds = _useful_thresholds(low, high, np.concatenate([positive, negative]))
    false_positives = len(negative) - np.searchsorted(negative, thresholds, side="left")
    false_negatives = np.searchsorted(positive, thresholds, side="left")
    return epsilon_table(len(positive))[false_positives, false_negatives].max()


def _useful_thresholds(low: float, high: float, samples: np.ndarray) -> np.ndarray:
    """The grid's first threshold, and those next above a sample: between them no count changes. float32 [6N+1]."""
    count = int(np.ceil((high - low) * THRESHOLDS_PER_UNIT))
    step = (high - low) / max(count - 1, 1)
    # Rounding may put the next threshold one place off the estimate (values stay below 1e4): neighbours are taken too.
    near = np.floor((samples - low) / step).astype(np.int64)[:, None] + np.arange(3)
    return _linspace32(low, high, count, np.append(np.clip(near, 0, count - 1), 0))


def _linspace32(low: float, high: float, count: int, index: np.ndarray) -> np.ndarray:
    """Entries `index` of torch.linspace(low, high, count) in float32: from the nearer end, one rounding each."""
    low, high = np.float32(low), np.float32(high)
    if count == 1:
        return np.full(index.shape, low)
    step = np.float64((high - low) / np.float32(count - 1))
    from_low = np.float64(low) + step * index
    from_high = np.float64(high) - step * (count - 1 - index)
    return np.where(index < count // 2, from_low, from_high).astype(np.float32)


def best_interval(positive: np.ndarray, negative: np.ndarray) -> float:
    """Best attack 'between l and r means the class with the smaller range'.

    The grid has about 400 right ends r around the peaky sample's maximum and, for each, 400 left ends l around
    r - width. The other class inside is a false positive, the peaky class outside a false negative.
    """
    peaky, other = positive, negative
    if positive[-1] - positive[0] >= negative[-1] - negative[0]:
        peaky, other = negative, positive
    width = peaky[-1] - peaky[0]
    low, high = peaky[0] + width - INTERVAL_BUFFER, peaky[-1] + INTERVAL_BUFFER
    right = np.linspace(low, high, int(np.ceil((high - low) * THRESHOLDS_PER_UNIT)))
    models = len(peaky)
    # One number holds both counts: other * (N + 1) + peaky. A difference of two such numbers is a place in the table.
    up_to_right = np.searchsorted(other, right, "right") * (models + 1) + np.searchsorted(peaky, right, "right")
    below = _CountsBelow(other, peaky, low - width - INTERVAL_BUFFER, high - width + INTERVAL_BUFFER)
    by_hits = _by_hits(models)
    lowest, highest = min(peaky[0], other[0]), max(peaky[-1], other[-1])
    best = -np.inf
    for row in range(0, len(right), ROWS):
        block = right[row : row + ROWS, None]
        inside = up_to_right[row : row + ROWS, None]
        counts = below(_left_ends(block - width, lowest, min(highest, block[-1, 0])))
        # Where l > r the interval is empty: the minimum makes both counts zero there.
        np.subtract(inside, np.minimum(counts, inside, out=counts), out=counts)
        best = max(best, by_hits.take(counts, mode="clip").max())
    return best


def _left_ends(centre: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """[R, <=400]: np.linspace(c - 2, c + 2, 400) for each c of the ascending [R, 1], to the bit.

    Columns in which every left end lies below the lowest sample count the same, so only the last of them is kept;
    columns in which every left end lies above the highest, or above the last right end, hold empty intervals and go.
    """
    start, stop = centre - INTERVAL_BUFFER, centre + INTERVAL_BUFFER
    step = (stop - start) / (LEFT_ENDS - 1)
    first = min(max(int((lowest - start[-1, 0]) / step[-1, 0]) - 2, 0), LEFT_ENDS - 1)
    end = max(int((highest - start[0, 0]) / step[0, 0]) + 3, first + 1)
    columns = np.arange(LEFT_ENDS, dtype=np.float64)[first:end]
    left = columns * step
    left += start
    if columns[-1] == LEFT_ENDS - 1:
        left[:, -1:] = stop
    return left


class _CountsBelow:
    """How many of two sorted samples lie below t, as other * (N + 1) + peaky, for many t in [low, high] at once.

    The line is cut into CELLS equal cells. Finding a cell is monotone in t even with rounding, so samples in earlier
    cells lie below t, and those in later cells do not; only a t that shares its cell with a sample needs a search.
    """

    def __init__(self, other: np.ndarray, peaky: np.ndarray, low: float, high: float):
        self.other, self.peaky, self.low = other, peaky, low
        self.per_unit = (CELLS - 1) / (high - low)
        cells = self._cell(np.clip(np.concatenate([other, peaky]), low, high))
        weights = np.repeat([len(peaky) + 1, 1], len(peaky))
        order = np.argsort(cells, kind="stable")
        up_to_sample = np.append(0, np.cumsum(weights[order]))
        self.before_cell = np.repeat(up_to_sample, np.diff(cells[order] + 1, prepend=0, append=CELLS))
        self.occupied = np.zeros(CELLS, dtype=bool)
        self.occupied[cells] = True

    def _cell(self, t: np.ndarray) -> np.ndarray:
        place = t - self.low
        place *= self.per_unit
        return place.astype(np.int64)

    def __call__(self, t: np.ndarray) -> np.ndarray:
        cell = self._cell(t)
        counts = self.before_cell.take(cell, mode="clip")
        shared = np.flatnonzero(self.occupied.take(cell, mode="clip"))
        close = t.take(shared)
        exact = np.searchsorted(self.other, close) * (len(self.peaky) + 1) + np.searchsorted(self.peaky, close)
        counts.put(shared, exact)
        return counts
