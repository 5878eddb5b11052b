"""Fusion: several networks trained as one.

Here is how their layers are stacked, which trials train together, and whether it pays. May import
the training loop and the models; the loop knows nothing of it.
"""
