"""Corrections of a data set by people, in files next to it, which its readers apply.

This package imports only `trainables.errors` and `trainables.disk`.
"""
