"""The execution of trials: executors, workers, capacity, failures and evaluation.

The only room that knows Ray Tune. May import what decides and what is journaled, and `trainables`;
never MLflow.
"""
