"""Results for people and programs.

In: scores. Out: tables, JSON.
"""
