"""The process of a verb: its guard, its lifetime, its library versions, and drivers' liveness.

This package may import `search.values` and `search.journal`.
"""
