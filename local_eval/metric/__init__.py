"""The competition's metric.

In: N + N confidences per forget example, and accuracies. Out: epsilons, forgetting quality, score, interval, ceiling.
"""
