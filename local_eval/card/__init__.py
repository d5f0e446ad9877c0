"""The first minutes on a GPU: is the kit right on this card, how fast is it, and what goes wrong?

In: a machine with a card. Out: a folder with a JSON for every stage, and one page that a person understands.
"""
