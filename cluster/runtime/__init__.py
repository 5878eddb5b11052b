"""A running cluster: its session, nodes, shared folder, spot notices, and the searches on it.

Modules here may import the cluster's own errors, login and versions, but never a verb.
"""
