"""The registries of models, data sets, tasks and metrics.

They import neither torch nor other packages of this project, except for `trainables.errors`, so
that checking a config takes no time.
"""
