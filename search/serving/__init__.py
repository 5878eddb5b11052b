"""Serve a promoted model over HTTP, in batches, and follow its alias to new versions.

May import `feedback`, which records answers, and the packages that load a promoted model; never
those that run a search.
"""
