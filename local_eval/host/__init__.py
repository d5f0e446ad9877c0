"""A competition of one's own: rules and secret parts, judgings, a public board, a final ranking.

In: a task, and other people's submissions. Out: a folder with competition.json, log.jsonl, board.*, starter_kit/ and
private/, which is the host's alone.
"""
