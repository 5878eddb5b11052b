"""Record a served model's answers, collect corrections of them, and learn from these.

`records` stores images, answers and corrections in a folder or a bucket; the other modules write or
read them. This package may import whatever searches, exports or promotes; never `serving`, which
is a layer above it.
"""
