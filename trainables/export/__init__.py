"""Export of a checkpoint as a self-contained folder, and predictions with it.

The package `predictor` in the folder is a copy of the task's code, and imports nothing from this
project.
"""
