"""Fusion: the networks of several trials, called members, are trained as one network.

Read in this order: `stack` trains a group of trainings for an epoch; `layers` and
`optimizers` are the fused forms of layers and optimizers; `shapes` computes keys that are equal
for trials that can be fused; `rounds` lets the trials of a process train together, each in its own
thread; `planner` measures whether fusion is faster.

This package may import the training loop and the models; the loop must not import fusion.
"""
