"""Record a served model's answers, collect corrections of them, and learn from these.

`records` stores images, answers and corrections in a place, which is a folder or a prefix in a
bucket. The other modules write or read these records. This package may import all packages that
search, export or promote, but not `serving`, which is a layer above it.
"""
