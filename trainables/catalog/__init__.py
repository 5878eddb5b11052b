"""What is known of models and data sets before torch is imported: names, options, where to find
them.

Imports nothing of the project, so that a config can be checked at once.
"""
