"""How trials are carried out: Ray Tune, the workers, capacity, failures, evaluation.

The only room that knows Ray Tune. May import what decides and what is journaled, and `trainables`;
never MLflow.
"""
