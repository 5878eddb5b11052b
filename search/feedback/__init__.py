"""The records of a model in use, and what is learned from them.

`records` keeps images, answers and corrections in a folder or a bucket; the other modules write or
read them. May import all that searches, exports and promotes; never `serving`, which is above it.
"""
