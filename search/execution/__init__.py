"""The execution of trials: executors, workers, capacity, failures and evaluation.

The only package that imports Ray Tune. It may import `search.decisions`, `search.journal` and
`trainables`, but never MLflow.
"""
