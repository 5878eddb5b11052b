"""Peers that the speed benchmark runs beside this project.

They are searches as Ray's, Optuna's, PyTorch's and MLflow's own documentation writes them.

Each is a command that prints one JSON line: `fit_s` (the search without Ray's start), `init_s`
(that start), `pure_s` (the sum of what the epochs took, in seconds), `trials`, `epochs`, `best`
(the best validation accuracy) and `first_step_at` (Unix time).
"""
