"""Values that every room may use: objectives, statistics, executors' names, credentials, wording.

Imports nothing of `search`.
"""
