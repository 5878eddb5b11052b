"""Tasks: the parts that depend on what is learned, from batches and losses to the evaluation.

May import data sets' arrays; never models or the training loop.
"""
