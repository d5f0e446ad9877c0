"""Processes and devices: a child for each run, pools of workers, a GPU shared by several, the sandbox.

In: jobs. Out: their results, or why there are none. Nothing in here knows what unlearning is.
"""
