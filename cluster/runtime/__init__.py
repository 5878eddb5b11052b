"""A running cluster: our Ray session, its nodes and resources, the shared folder, and fair shares.

The verbs of `cluster` are the modules that are run as commands, such as `cluster.up`. Of these,
modules in this package may import only `cluster.spot`.
"""
