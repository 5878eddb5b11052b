"""Test whether a served model still behaves as before, for `search.monitor`.

New answers are compared with the model's reference: a file that was exported with the model and
contains its predictions for validation images, or for images that were recorded earlier.

This package may import `feedback`, which reads the records, and the page's templates. It may not
import `serving` or torch, because the tests need only the recorded answers and the reference.
"""
