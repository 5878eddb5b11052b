"""A running cluster: our Ray session, the nodes with their resources, the shared folder, fair
shares.

The verbs of `cluster` are the modules that are run as commands, such as `cluster.up`. Of these,
modules in this package may import only `cluster.spot`.
"""
