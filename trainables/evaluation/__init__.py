"""Measurements of a checkpoint: how good it is, what it costs to use, how long an epoch takes.

May import the training loop, which computes a network's outputs; never Ray.
"""
