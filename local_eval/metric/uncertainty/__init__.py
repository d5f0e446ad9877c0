"""How sure a score is: intervals, paired comparison, projection to N = 512.

In: N + N confidences per forget example. Out: intervals, verdicts, projected scores.
"""
