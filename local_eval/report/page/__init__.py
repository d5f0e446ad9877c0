"""A graded method as one page that opens anywhere: figures, words and tables drawn from what a grading left on disk.

In: records, a score.json, the task. Out: report.html and, beside it, figures/ with PNGs and examples.csv.
"""
