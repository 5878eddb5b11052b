"""The design of a search: its experiment as one frozen value, its budget, its command lines.

This package may import algorithms, schedulers, spaces, the journal and `search.values`, but never
the packages that decide, run or display.
"""
