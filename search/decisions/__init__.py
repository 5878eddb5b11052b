"""A search's decisions: the next trial, early stopping, the choice of the best, the next space.

The driver and its policies. May import algorithms, schedulers, the journal and `design`; never
Ray, MLflow, torch, nor anything that runs a training or shows one.
"""
