"""The N runs of a submission.

In: a task, the original model and a submission. Out: a record for every run, or why it failed.
"""
