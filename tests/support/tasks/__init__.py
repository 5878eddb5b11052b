"""Three small tasks by which the protocol of tasks is tried: each is its file, the file of its
stand-alone predictor, and a line in `register`.

    with registered(segmentation):
        ...

gives the catalog a task, a data set and a network for as long as a test needs them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.tasks import TASKS


@contextmanager
def registered(*modules: Any) -> Iterator[None]:
    """Name what these modules have in the catalog: `TASK`, `DATASET` and `MODEL`."""
    with (
        patch.dict(TASKS, {each.TASK.name: each.TASK for each in modules}),
        patch.dict(DATASETS, {each.NAME: each.DATASET for each in modules}),
        patch.dict(MODELS, {each.NAME: each.MODEL for each in modules}),
    ):
        yield
