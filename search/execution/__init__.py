"""The execution of trials: executors, workers, capacity, failures and evaluation.

This is the only package that imports Ray Tune. It may also import `search.decisions`,
`search.journal` and `trainables`, but not MLflow.
"""
