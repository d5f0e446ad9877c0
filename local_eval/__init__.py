"""The hidden grader on your own machine. In the order of the data's path:

contract (what a submission is) -> task -> train, oracles -> loaders, runs -> metric -> score -> report; grade strings
them together, check looks at one submission, pool and records serve them, __main__ is the command line.
"""
