"""To Kaggle: notebooks that run alone, uploading, the time budget.

In: a submission's file. Out: a notebook, a version on Kaggle, a projection of the hours that it takes there.
"""
