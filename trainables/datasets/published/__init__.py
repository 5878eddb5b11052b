"""The data sets that come by name, one a file, as their authors publish them.

Each gives arrays (`Decoded`) from files or a package. It may import the arrays and the
configuration, and knows nothing of how they are divided.
"""
