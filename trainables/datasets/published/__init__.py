"""The published data sets, which users select by name, one per file.

Each returns arrays (`Decoded`) from files or a package. It may import the arrays and the
configuration; splitting is not its task.
"""
