"""The leaderboard as one HTML file.

In: a board. Out: a page that needs nothing else.
"""
