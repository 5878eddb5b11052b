"""The design of a search: the experiment as one frozen value, the budget, and follow-up commands.

This package may import algorithms, schedulers, spaces, the journal and `search.values`, but never
the packages that decide, run or display.
"""
