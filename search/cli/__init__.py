"""Command lines: their options come from the fields of requests (`search.values.option`).

This package imports operations, and nothing of `search.web`.
"""
