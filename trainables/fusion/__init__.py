"""Fusion: several trials' networks, called members, are trained as one network.

Read in this order: `stack` trains an epoch of a group of trainings; `layers`, `optimizers` and
`masks` are the fused forms of layers, optimizers and dropout; `shapes` has the keys of trials that
fit together; `rounds` lets the trials of a process train together, each in its own thread;
`planner` measures whether fusion is faster. May import the training loop and the models; the loop
does not know of fusion.
"""
