"""A look at the images that a search is given: classes, copies, leaks, what is left out.

May import the data sets, the catalog and the config, and of libraries numpy, Pillow and scipy;
never torch. `report` has the facts, `words` the sentences, `pictures` the drawings.
"""
