"""Tasks: everything that depends on the kind of problem, from batches and losses to evaluations.

This package may import the arrays of data sets, but never `trainables.models` or the training loop.
"""
