"""The search: spaces, algorithms, schedulers, the journal, MLflow tracking and reports.

The modules of this folder are the commands (`python -m search`) and what they share.
"""
