"""Which workers train again, without Ray."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from cluster.runtime.session import LOCAL
from search.design.experiment import Experiment
from search.execution.pool import Workers
from tests.support.played import changed


@pytest.mark.parametrize("is_local", [True, False])
def test_workers_train_again_only_where_no_node_was_reserved_for_others(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    monkeypatch.setattr(ray, "put", lambda value: value)
    dataset: Any = SimpleNamespace(sealed=None)
    place = LOCAL if is_local else "10.0.0.1:6379"
    workers = Workers(changed(experiment, address=place, device="cpu"), dataset, {})
    worker: Any = object()
    workers.take_back(worker, over=True)
    workers.reuse_returned()
    assert (worker in workers.idle) == is_local
    assert (worker in workers.returned) != is_local
