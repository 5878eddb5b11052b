"""The training of one network: the loop, optimizers, precision, and processes.

This package may import models, tasks, data sets and checkpoints, but never Ray. It writes no files.
"""
