"""Inspection of a data set: classes, copies of pictures, leaks between parts, unused files.

`copies` finds images that show the same picture, `leaks` removes them, `report` collects the facts,
`words` puts them into sentences, and `pictures` draws samples. This package may import the data
sets, the catalog and the config, and the libraries numpy, Pillow and scipy, but never torch.
"""
