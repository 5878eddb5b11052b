"""What is special about what is learned: a task, its batches, losses, metrics and evaluation.

May import data sets' arrays; never models or the training loop.
"""
