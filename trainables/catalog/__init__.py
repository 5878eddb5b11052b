"""The registries of models, data sets, tasks and metrics.

They import neither torch nor other modules of this project, except for `trainables.errors`, so that
a config is checked without delay.
"""
