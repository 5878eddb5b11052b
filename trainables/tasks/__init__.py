"""Tasks: all that depends on the kind of problem, from batches and losses to the evaluation.

May import data sets' arrays; never models or the training loop.
"""
