"""The process of a verb: error handling, start and end, library versions, and drivers' liveness.

This package may import `search.values` and `search.journal`.
"""
