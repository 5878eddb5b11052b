"""Maps of an image that show what a classifier's prediction depends on, and checks of these maps.

This package may import evaluation, which loads trained models, and everything below it, captum and
scikit-learn, but never Ray.
"""
