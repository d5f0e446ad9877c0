"""The hidden grader on your own machine. In the order of the data's path:

contract (what a submission is) -> task -> train, oracles -> loaders, runs -> attacks, metric -> score -> report.
grade strings them together, compare makes a table of many, check looks at one submission, pool and records serve them,
__main__ is the command line.
"""
