"""What others measure, and what would expose a score that was come by otherwise: a second table beside the score.

In: records of unlearned models and of oracles. Out: measures, each with what perfect unlearning gets at this N.
"""
