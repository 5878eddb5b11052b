"""A checkpoint as a self-contained folder, and the code that uses it.

`predictor.py` is copied beside the model and imports nothing of the project.
"""
