"""Sessions (each is one run of a search's driver), and the estimate of a search.

This package may import every package below the verbs, but never a verb, the pages or the command
line.
"""
