"""Export of a checkpoint as a self-contained folder, and predictions with it.

`predictor.py` is copied into the folder, and imports nothing from this project.
"""
