"""The hidden grader on your own machine: one package a room, in the order of the data's path.

tasks -> oracles -> runs -> metric -> report, on top of engine; kaggle, board, bench and commands stand beside them,
`grade` strings them together, and `__main__` is the command line. Imports point to earlier rooms only.
"""
