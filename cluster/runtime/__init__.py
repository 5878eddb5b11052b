"""A running cluster: joining it, its nodes, other searches on it, storage that all see, spot
notices.

May import the cluster's own errors, login and versions; never a verb.
"""
