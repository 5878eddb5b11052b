"""Robustness of a trained model: accuracy on corrupted images, and under adversarial attacks.

This package may import the evaluation of checkpoints and what lies below it, but never Ray.
"""
