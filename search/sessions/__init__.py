"""Sessions of a search, and the estimate of a search.

A session lasts from the start or resume of a search to the end of its driver.

This package may import every package below the verbs, but never a verb, the pages or the command
line.
"""
