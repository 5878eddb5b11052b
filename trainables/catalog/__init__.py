"""The registries of models, data sets, tasks and metrics.

They import neither torch nor other modules of this project, except for `trainables.errors`.
Therefore a config can be checked without waiting for slow imports.
"""
