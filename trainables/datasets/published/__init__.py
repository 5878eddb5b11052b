"""The published data sets, which users select by name; each is a module.

A module reads files, or the data of a package, into arrays (`Decoded`); it does not split them.
These modules may import the config, and the modules `arrays` and `images` of `trainables.datasets`.
"""
