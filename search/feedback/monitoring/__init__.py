"""Does a model in use still behave as before? The tests of `search.monitor`, and their results.

May import `feedback`, which reads the records, and the page's templates; never `serving`, and no
torch: the answers were recorded, and a model's reference is exported with it.
"""
