"""The records of what a model in use has met, and what is learned from them.

`records` keeps images, answers and corrections in a folder or a bucket; all else here writes or
reads them. May import all that searches, exports and promotes; never `serving`, which is above it.
"""
