"""Inspection of the images of a search: classes, copies, leaks, and what is left out.

May import the data sets, the catalog and the config, and of libraries numpy, Pillow and scipy;
never torch. `report` has the facts, `words` the sentences, `pictures` the drawings.
"""
