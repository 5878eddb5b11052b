"""Asks the questions and joins everything: spaces, algorithms, schedulers, the journal, MLflow,
reports.
"""
