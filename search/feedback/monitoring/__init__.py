"""Is a model in use still what it was? The tests behind `search.monitor`, and what they find.

May import `feedback`, which reads what was met, and the page's templates; never `serving`, and no
torch: the answers were kept, and a model's reference goes with it.
"""
