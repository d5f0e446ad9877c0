"""Published variants with the competition's scores for them, graded here: does a task rank as Kaggle did?

In: a table of rows, each a variant and its published score, and a task. Out: the same rows with what they score here.
"""
