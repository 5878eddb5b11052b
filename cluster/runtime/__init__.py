"""A running cluster: our session on it, its nodes, resources and shared folder, and fair shares.

Modules here may import the modules that the verbs of `cluster` share, but of the verbs only
`cluster.spot`.
"""
