"""Test whether a served model still behaves as before, for `search.monitor`.

May import `feedback`, which reads the records, and the page's templates; never `serving` or torch:
the tests only need the recorded answers and the reference that was exported with the model.
"""
