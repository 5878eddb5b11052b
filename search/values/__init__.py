"""Values that every room may use: objectives, statistics, the names of executors, credentials.

Imports nothing of `search`.
"""
