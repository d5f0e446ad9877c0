"""A graded method as one file for others, which verifies itself.

In: what was graded, as its page is drawn from it; or a file from somebody else.
Out: a zip of the source, the score and the records; a score and a page that were computed anew; runs made again.
"""
