"""The server of a promoted model: it answers over HTTP and follows an alias to new versions.

This package may import `search.feedback`, which records answers, and the packages that load a
promoted model. It must not import the packages that run a search.
"""
