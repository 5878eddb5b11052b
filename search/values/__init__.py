"""Values that every package may use: objectives, statistics, names of executors, texts.

This package imports no other part of `search`.
"""
