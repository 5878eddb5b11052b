"""A checkpoint as a folder that stands alone, and the code that goes with it.

`predictor.py` is copied beside the model and imports nothing of the project.
"""
