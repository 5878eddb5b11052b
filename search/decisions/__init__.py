"""A search's decisions: the next trial, early stopping, the choice of the best, the next space.

This package contains the driver and its policies. It may import algorithms, schedulers, the journal
and `search.design`, but never Ray, MLflow, torch, or packages that run or display trainings.
"""
