"""The original model, and N models retrained without the forget set.

In: a task. Out: original weights, and a record for every oracle. `train` is the readable loop, the rest makes it fast.
"""
