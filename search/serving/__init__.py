"""A promoted model over HTTP: requests, batches, versions that are swapped as their alias moves.

May import `feedback`, which records answers, and what loads a promoted model; never what runs a
search.
"""
