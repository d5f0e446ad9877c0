"""What a submission is, and its N runs.

In: a task, the original model and a submission's file. Out: a record for every run, or why it failed.
"""
