"""Files, records, processes and devices: what every other room stands on.

In: jobs and what they make. Out: results that are whole, verified and traceable.
Nothing in here knows what unlearning is.
"""
