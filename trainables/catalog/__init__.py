"""The registries of models and data sets: names, options, where to find them. Free of torch.

Imports nothing of the project, so that a config can be checked at once.
"""
