"""A running cluster: our session on it, its nodes, resources and shared folder, and fair shares.

Modules here may import `cluster`'s shared modules (and `cluster.spot`), but no other verb.
"""
