"""What lies on disk, and the errors that all rooms share.

In: what was made. Out: files that are whole, verified and traceable.
"""
